// SPDX-License-Identifier: GPL-2.0-only
/* What is true of secpaths whatever keeps them: a pointer of their own in the
 * buffer, as before the series, or an extension.
 */
#include "cases.h"

#define MANY 64

/* The buffer's own secpath, which no other refers to; NULL where there is no memory. */
static struct sec_path *own_secpath(struct sk_buff *skb)
{
#ifdef CONFIG_SKB_EXTENSIONS
	return secpath_set(skb);
#else
	return secpath_set(skb) ? NULL : skb_sec_path(skb);
#endif
}

struct sk_buff *secured(struct xfrm_state *state)
{
	struct sk_buff *skb = buffer();
	struct sec_path *sp = skb ? own_secpath(skb) : NULL;

	if (!sp) {
		kfree_skb(skb);
		return NULL;
	}
	xfrm_state_hold(state);
	sp->xvec[sp->len++] = state;
	return skb;
}

void release(struct xfrm_state *state)
{
	if (!state)
		return;
	state->km.state = XFRM_STATE_DEAD;
	xfrm_state_put(state);
}

CASE(scrubbing_drops_the_secpath)
{
	struct sk_buff *skb = buffer();

	want(skb);
	want(own_secpath(skb));
	want(secpath_exists(skb));
	skb_scrub_packet(skb, true);
	want(!secpath_exists(skb));
out:
	kfree_skb(skb);
}

CASE(a_secpath_holds_its_state_until_the_end)
{
	struct xfrm_state *state = xfrm_state_alloc(&init_net);
	struct sk_buff *skb = NULL, *clone = NULL;

	want(state);
	skb = secured(state);
	want(skb);
	equal(refcount_read(&state->refcnt), 2);
	clone = skb_clone(skb, GFP_KERNEL);
	want(clone);
	equal(refcount_read(&state->refcnt), 2);
	kfree_skb(skb);
	skb = NULL;
	equal(refcount_read(&state->refcnt), 2);
	kfree_skb(clone);
	clone = NULL;
	equal(refcount_read(&state->refcnt), 1);
out:
	kfree_skb(clone);
	kfree_skb(skb);
	release(state);
}

CASE(a_copied_secpath_holds_its_state_too)
{
	struct xfrm_state *state = xfrm_state_alloc(&init_net);
	struct sk_buff *skb = NULL, *clone = NULL;

	want(state);
	skb = secured(state);
	want(skb);
	clone = skb_clone(skb, GFP_KERNEL);
	want(clone);
	want(own_secpath(clone));
	want(skb_sec_path(clone) != skb_sec_path(skb));
	equal(refcount_read(&state->refcnt), 3);
	equal(skb_sec_path(clone)->len, 1);
	want(skb_sec_path(clone)->xvec[0] == state);
	kfree_skb(clone);
	clone = NULL;
	equal(refcount_read(&state->refcnt), 2);
	kfree_skb(skb);
	skb = NULL;
	equal(refcount_read(&state->refcnt), 1);
out:
	kfree_skb(clone);
	kfree_skb(skb);
	release(state);
}

CASE(a_copied_secpath_holds_all_its_states)
{
	struct xfrm_state *state = xfrm_state_alloc(&init_net), *second = xfrm_state_alloc(&init_net);
	struct sk_buff *skb = NULL, *clone = NULL;
	struct sec_path *sp;

	want(state && second);
	skb = secured(state);
	want(skb);
	sp = skb_sec_path(skb);
	xfrm_state_hold(second);
	sp->xvec[sp->len++] = second;
	clone = skb_clone(skb, GFP_KERNEL);
	want(clone);
	want(own_secpath(clone));
	equal(skb_sec_path(clone)->len, 2);
	equal(refcount_read(&state->refcnt), 3);
	equal(refcount_read(&second->refcnt), 3);
	kfree_skb(clone);
	clone = NULL;
	equal(refcount_read(&state->refcnt), 2);
	equal(refcount_read(&second->refcnt), 2);
	kfree_skb(skb);
	skb = NULL;
	equal(refcount_read(&state->refcnt), 1);
	equal(refcount_read(&second->refcnt), 1);
out:
	kfree_skb(clone);
	kfree_skb(skb);
	release(state);
	release(second);
}

/* What a transform is given to encrypt. */
static struct {
	unsigned int all, secured;
} outgoing;

static int take_outgoing(struct xfrm_state *state, struct sk_buff *skb)
{
	outgoing.all++;
	outgoing.secured += secpath_exists(skb);
	kfree_skb(skb);
	return -EINPROGRESS; /* it is ours from here on */
}

static const struct xfrm_type taker = { .owner = THIS_MODULE, .proto = IPPROTO_ESP, .output = take_outgoing };

CASE(a_secpath_does_not_leave_through_ipsec)
{
	struct xfrm_state *came_by = xfrm_state_alloc(&init_net), *state = xfrm_state_alloc(&init_net);
	struct rtable *route = rt_dst_alloc(init_net.loopback_dev, 0, RTN_LOCAL, true);
	struct sk_buff *skb = NULL, *given;
	int error;

	want(came_by && state && route);
	state->km.state = XFRM_STATE_VALID;
	state->props.mode = XFRM_MODE_TRANSPORT;
	state->props.family = AF_INET;
	state->outer_mode.family = AF_INET;
	state->type = &taker;
	skb = secured(came_by);
	want(skb);
	skb_reset_network_header(skb);
	*(struct iphdr *)skb_put(skb, sizeof(struct iphdr)) = (struct iphdr) {
		.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP, .tot_len = htons(sizeof(struct iphdr)),
		.saddr = htonl(INADDR_LOOPBACK), .daddr = htonl(INADDR_LOOPBACK),
	};
	skb->protocol = htons(ETH_P_IP);
	route->dst.xfrm = state;
	dst_hold(&route->dst);
	skb_dst_set(skb, &route->dst);
	memset(&outgoing, 0, sizeof(outgoing));
	given = skb;
	skb = NULL; /* whatever comes of it, it is gone */
	error = xfrm_output(NULL, given);
	route->dst.xfrm = NULL;
	equal(error, 0);
	equal(outgoing.all, 1);
	equal(outgoing.secured, 0);
	equal(refcount_read(&came_by->refcnt), 1);
out:
	kfree_skb(skb);
	if (route)
		dst_release(&route->dst);
	if (state)
		state->type = NULL;
	release(came_by);
	release(state);
}

CASE(a_secpath_that_is_deleted_lets_go_of_its_state)
{
	struct xfrm_state *state = xfrm_state_alloc(&init_net);
	struct sk_buff *skb = NULL;

	want(state);
	skb = secured(state);
	want(skb);
	secpath_reset(skb);
	want(!secpath_exists(skb));
	equal(refcount_read(&state->refcnt), 1);
out:
	kfree_skb(skb);
	release(state);
}

CASE(a_new_secpath_is_empty)
{
	struct xfrm_state *state = xfrm_state_alloc(&init_net);
	struct sk_buff *skb = NULL, *next = NULL;
	struct sec_path *sp;

	want(state);
	/* memory that has held a state before */
	skb = secured(state);
	want(skb);
	next = buffer();
	want(next);
	local_bh_disable();
	kfree_skb(skb);
	skb = NULL;
	sp = own_secpath(next);
	local_bh_enable();
	want(sp);
	equal(sp->len, 0);
	equal(sp->olen, 0);
	equal(sp->verified_cnt, 0);
	want(own_secpath(next) == sp);
out:
	kfree_skb(next);
	kfree_skb(skb);
	release(state);
}

/* One buffer, its clones freed on all CPUs: the last one frees. */
struct heap {
	struct sk_buff *clones[MANY];
	atomic_t next;
	atomic_t left;
	struct completion done;
};

static int free_some(void *data)
{
	struct heap *heap = data;
	int i;

	while ((i = atomic_inc_return(&heap->next) - 1) < MANY)
		kfree_skb(heap->clones[i]);
	if (atomic_dec_and_test(&heap->left))
		complete(&heap->done);
	return 0;
}

CASE(the_last_of_many_frees)
{
	struct xfrm_state *state = xfrm_state_alloc(&init_net);
	struct heap *heap = kzalloc(sizeof(*heap), GFP_KERNEL);
	struct sk_buff *skb = NULL;
	unsigned int round, cpu;
	int i;

	want(state);
	want(heap);
	for (round = 0; round < 50; round++) {
		skb = secured(state);
		want(skb);
		for (i = 0; i < MANY; i++)
			heap->clones[i] = skb_clone(skb, GFP_KERNEL);
		kfree_skb(skb);
		skb = NULL;
		atomic_set(&heap->next, 0);
		atomic_set(&heap->left, num_online_cpus());
		init_completion(&heap->done);
		for_each_online_cpu(cpu) {
			struct task_struct *task = kthread_create_on_cpu(free_some, heap, cpu, "skb_ext/%u");

			if (!IS_ERR(task))
				wake_up_process(task);
			else
				free_some(heap);
		}
		wait_for_completion(&heap->done);
		equal(refcount_read(&state->refcnt), 1);
	}
out:
	kfree_skb(skb);
	kfree(heap);
	release(state);
}

const struct test_case secpath_cases[] = {
	ENTRY(scrubbing_drops_the_secpath),
	ENTRY(a_secpath_holds_its_state_until_the_end),
	ENTRY(a_copied_secpath_holds_its_state_too),
	ENTRY(a_copied_secpath_holds_all_its_states),
	ENTRY(a_secpath_does_not_leave_through_ipsec),
	ENTRY(a_secpath_that_is_deleted_lets_go_of_its_state),
	ENTRY(a_new_secpath_is_empty),
	ENTRY(the_last_of_many_frees),
	{}
};
