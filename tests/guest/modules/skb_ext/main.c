// SPDX-License-Identifier: GPL-2.0-only
/* Loading the module runs every case; /proc/harness_skb_ext holds the result in
 * KTAP.
 */
#include <linux/proc_fs.h>
#include <linux/seq_file.h>

#include "cases.h"

#define REPORT_SIZE (32 * 1024)

static char *report;
static size_t used;

void say(const char *format, ...)
{
	va_list values;

	va_start(values, format);
	used += vscnprintf(report + used, REPORT_SIZE - used, format, values);
	va_end(values);
}

static const struct test_case *const all[] = {
#ifdef CONFIG_SKB_EXTENSIONS
	extension_cases,
#endif
#ifdef CONFIG_XFRM
	secpath_cases,
#endif
};

static void run_all(void)
{
	const struct test_case *each;
	unsigned int i, number = 0;

	for (i = 0; i < ARRAY_SIZE(all); i++)
		for (each = all[i]; each->name; each++)
			number++;
	say("KTAP version 1\n1..%u\n", number);
	number = 0;
	for (i = 0; i < ARRAY_SIZE(all); i++) {
		for (each = all[i]; each->name; each++) {
			struct result result = {};

			/* where the machine dies, the console says in which case */
			pr_info("%s\n", each->name);
			each->run(&result);
			say("%sok %u %s%s%s\n", result.failed ? "not " : "", ++number, each->name,
			    result.skip ? " # SKIP " : "", result.skip ?: "");
		}
	}
}

static int show(struct seq_file *file, void *unused)
{
	seq_write(file, report, used);
	return 0;
}

static int __init skb_ext_test_init(void)
{
	report = kvzalloc(REPORT_SIZE, GFP_KERNEL);
	if (!report)
		return -ENOMEM;
	if (!proc_create_single("harness_skb_ext", 0400, NULL, show)) {
		kvfree(report);
		return -ENOMEM;
	}
	run_all();
	return 0;
}

static void __exit skb_ext_test_exit(void)
{
	remove_proc_entry("harness_skb_ext", NULL);
	kvfree(report);
}

module_init(skb_ext_test_init);
module_exit(skb_ext_test_exit);
MODULE_DESCRIPTION("Checks what skb extensions promise, and what secpaths did before");
MODULE_LICENSE("GPL");
