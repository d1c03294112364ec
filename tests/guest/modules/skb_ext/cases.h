/* SPDX-License-Identifier: GPL-2.0-only */
/* What cases are made of. A case works on buffers of its own, which no device
 * ever sees. What it wants is said by want() and equal(): the first that does
 * not hold ends it, by way of its label `out`.
 */
#ifndef HARNESS_CASES_H
#define HARNESS_CASES_H

#include <linux/completion.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <net/ip.h>
#include <net/net_namespace.h>
#include <net/route.h>
#include <net/xfrm.h>

/* Goes into the report. */
__printf(1, 2) void say(const char *format, ...);

/* What became of a case. */
struct result {
	const char *skip;
	bool failed;
};

struct test_case {
	const char *name;
	void (*run)(struct result *result);
};

#define CASE(name) static void name(struct result *result)
#define ENTRY(name) { #name, name }

/* By file; a last one without a name ends each. */
extern const struct test_case extension_cases[], secpath_cases[];

#define want(cond) do {							\
	if (!(cond)) {							\
		say("# %s:%d: %s does not hold\n", kbasename(__FILE__), __LINE__, #cond); \
		result->failed = true;					\
		goto out;						\
	}								\
} while (0)

#define equal(got, expected) do {					\
	long long __got = (got), __expected = (expected);		\
									\
	if (__got != __expected) {					\
		say("# %s:%d: %s: expected %lld, saw %lld\n", kbasename(__FILE__), __LINE__, \
		    #got, __expected, __got);				\
		result->failed = true;					\
		goto out;						\
	}								\
} while (0)

#define skip(why) do {							\
	result->skip = (why);						\
	goto out;							\
} while (0)

static inline struct sk_buff *buffer(void)
{
	struct sk_buff *skb = alloc_skb(256, GFP_KERNEL);

	if (skb)
		skb_reserve(skb, 64);
	return skb;
}

#ifdef CONFIG_XFRM
/* A buffer whose secpath holds a reference to a state. */
struct sk_buff *secured(struct xfrm_state *state);

/* The last reference: a state that was never live is dead from the start. */
void release(struct xfrm_state *state);
#endif

#endif
