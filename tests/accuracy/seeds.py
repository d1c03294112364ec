# SPDX-License-Identifier: GPL-2.0-only
"""The rows of the accuracy table: changes to Linux 6.1, each with what is true of it in both configurations."""

from __future__ import annotations

from tests.accuracy.seed import IDENTICAL, PROVED, Append, Edit, Seed, both, changed, explained

DUMMY = "drivers/net/dummy.o"
CONG = "net/ipv4/tcp_cong.o"
REF = "lib/percpu-refcount.o"
REF_H = "include/linux/percpu-refcount.h"
NOTIFIER = "net/core/fib_notifier.o"
TIMER = "net/bridge/br_stp_timer.o"

INITCALL = "__initcall__kmod_fib_notifier__fib_notifier_init"
AVAILABLE = "tcp_get_available_congestion_control"
REST = "\n\t\t\tbreak;\n\t}\n\trcu_read_unlock();\n}\n\n/* Get current"
REF_FIELDS = ("percpu_ref_init", "__percpu_ref_switch_mode", "percpu_ref_switch_to_atomic_rcu")
REF_LINES = both(explained("bug-table-line"), debug=changed("percpu_ref_switch_to_atomic_sync"), debug_proved=PROVED)
"""Lines of lib/percpu-refcount.c that moved: in the debug configuration might_sleep() takes one as an argument."""

CODE = (
    Seed(name="a function pointer swapped in a static initialiser", object=DUMMY,
         expected=both(changed("dummy_netdev_ops")),
         after=(
        Edit(old=".ndo_init\t\t= dummy_dev_init", new=".ndo_init\t\t= eth_validate_addr"),
        Edit(old=".ndo_validate_addr\t= eth_validate_addr", new=".ndo_validate_addr\t= dummy_dev_init"))),
    Seed(name="a call target of the same length", object=TIMER,
         expected=both(changed("br_message_age_timer_expired", "br_become_root_bridge")),
         after=(
        Edit(old="br_become_root_bridge(br);", new="br_transmit_tcn(br);"),)),
    Seed(name="one comparison operator", object=DUMMY,
         expected=both(changed("dummy_init_module")),
         after=(
        Edit(old="if (err < 0)\n\t\tgoto err;", new="if (err <= 0)\n\t\tgoto err;"),)),
    Seed(name="a flag in an immediate", object=DUMMY,
         expected=both(changed("dummy_setup")),
         after=(Edit(old="NETIF_F_SG | NETIF_F_FRAGLIST", new="NETIF_F_SG | NETIF_F_HW_ESP"),)),
    Seed(name="likely becomes unlikely", object=CONG,
         expected=both(IDENTICAL),
         after=(
        Edit(old="if (unlikely(!bpf_try_module_get", new="if (likely(!bpf_try_module_get"),)),
    Seed(name="a function grows", object=DUMMY,
         expected=both(changed("dummy_dev_uninit", more=True)),
         after=(
        Edit(old="\tfree_percpu(dev->lstats);", new="\tfree_percpu(dev->lstats); netif_carrier_off(dev);"),)),
    Seed(name="a volatile dropped, one access where there were two", object=REF,
         expected=both(changed("harness_twice", more=True)),
         before=(
        Append(new="static volatile int harness_flag;\nint *harness_at(void) { return (int *)&harness_flag; }\n"
                   "int harness_twice(void) { return harness_flag + harness_flag; }\n"),),
         after=(Edit(old="static volatile int harness", new="static int harness"),)),
    Seed(name="a volatile dropped, same access", object=CONG,
         expected=both(explained("initcall-number", "unique-id-number")),
         after=(
        Edit(old="\tWRITE_ONCE(icsk->icsk_ca_ops, ca);\n\trcu_read_unlock();",
             new="\ticsk->icsk_ca_ops = ca;\n\trcu_read_unlock();"),)),
    Seed(name="WARN_ON_ONCE becomes WARN_ON", object=REF,
         expected=both(changed("percpu_ref_resurrect")),
         after=(
        Edit(old="WARN_ON_ONCE(!percpu_ref_is_dying(ref))", new="WARN_ON(!percpu_ref_is_dying(ref))"),)),
    Seed(name="an alternative: another CPU feature", object="arch/x86/lib/memset_64.o",
         expected=both(changed("__memset")),
         after=(
        Edit(old='"", X86_FEATURE_REP_GOOD', new='"", X86_FEATURE_XMM2'),)),
    Seed(name="an exception table entry's handler", object="arch/x86/lib/getuser.o",
         expected=both(changed("__get_user_1")),
         after=(
        Edit(old="_ASM_EXTABLE_UA(1b, .Lbad_get_user_clac)", new="_ASM_EXTABLE(1b, .Lbad_get_user_clac)"),)),
)

DATA = (
    Seed(name="a constant in rodata", object="lib/bitrev.o",
         expected=both(changed("byte_rev_table")),
         after=(
        Edit(old="0x00, 0x80, 0x40", new="0x00, 0x80, 0x41"),)),
    Seed(name="a string", object=REF,
         expected=both(changed("percpu_ref_switch_to_atomic_rcu")),
         after=(Edit(old="percpu ref (%ps) <= 0", new="percpu ref (%ps) << 0"),)),
    Seed(name="a message's level", object=CONG,
         expected=both(changed("tcp_register_congestion_control")),
         after=(
        Edit(old='pr_err("%s does not', new='pr_warn("%s does not'),)),
    Seed(name="two equal strings split", object="lib/refcount.o",
         expected=both(changed("refcount_warn_saturate")),
         after=(
        Edit(old='case REFCOUNT_ADD_OVF:\n\t\tREFCOUNT_WARN("saturated; leaking memory")',
             new='case REFCOUNT_ADD_OVF:\n\t\tREFCOUNT_WARN("saturated; leaking MEMORY")'),)),
    Seed(name="two strings merged into one", object="lib/refcount.o",
         expected=both(changed("refcount_warn_saturate")),
         after=(
        Edit(old='"underflow; use-after-free"', new='"addition on 0; use-after-free"'),)),
    Seed(name="a string literal becomes an array", object=DUMMY,
         expected=both(changed("dummy_link_ops", "kind", more=True)),
         after=(
        Edit(old="static struct rtnl_link_ops dummy_link_ops __read_mostly = {\n\t.kind\t\t= DRV_NAME,",
             new="static const char kind[] = DRV_NAME; static struct rtnl_link_ops dummy_link_ops __read_mostly = {\n"
                 "\t.kind\t\t= kind,"),)),
    Seed(name="string pool in another order", object=REF,
         expected=both(explained("string-pool-order")),
         before=(
        Append(new='const char *harness_a = "harness one"; const char *harness_b __read_mostly = "harness two";\n'),),
         after=(Edit(old='const char *harness_a = "harness one"; const char *harness_b __read_mostly = "harness two";',
                     new='const char *harness_b __read_mostly = "harness two"; const char *harness_a = "harness one";'),
                )),
    Seed(name="alignment of a datum", object=DUMMY,
         expected=both(changed(".data..read_mostly")),
         after=(
        Edit(old="dummy_link_ops __read_mostly =", new="dummy_link_ops __read_mostly __aligned(128) ="),)),
    Seed(name="a section attribute: __init added", object=DUMMY,
         expected=both(changed("dummy_setup", more=True)),
         after=(
        Edit(old="static void dummy_setup(", new="static void __init dummy_setup("),)),
    Seed(name="a section attribute: __read_mostly dropped", object=DUMMY,
         expected=both(changed("dummy_link_ops", more=True)),
         after=(
        Edit(old="dummy_link_ops __read_mostly =", new="dummy_link_ops ="),)),
    Seed(name="a const dropped", object=DUMMY,
         expected=both(changed("dummy_ethtool_ops", more=True)),
         after=(
        Edit(old="static const struct ethtool_ops", new="static struct ethtool_ops"),)),
    Seed(name="a new global", object=DUMMY,
         expected=both(changed("harness_new", more=True)),
         after=(Append(new="int harness_new;\n"),)),
)

CONFIGURED = (
    Seed(name="notrace added", object=DUMMY, expected=both(IDENTICAL, debug=changed("dummy_xmit", more=True)),
         after=(Edit(old="static netdev_tx_t dummy_xmit(", new="static notrace netdev_tx_t dummy_xmit("),)),
    Seed(name="might_sleep dropped", object=CONG, expected=both(
        IDENTICAL, debug=changed("tcp_ca_get_key_by_name", more=True)),
         after=(Edit(old="\tmight_sleep();\n", new="\n"),)),
    Seed(name="lockdep_assert_held dropped", object=REF, expected=both(
        IDENTICAL, debug=changed("__percpu_ref_switch_mode", more=True)),
         after=(Edit(old="\tlockdep_assert_held(&percpu_ref_switch_lock);\n", new="\n"),)),
    Seed(name="the text of a pr_debug", object=TIMER, expected=both(IDENTICAL, debug=changed(
        "__UNIQUE_ID_ddebug", "br_tcn_timer_expired")),
         after=(Edit(old='br_debug(br, "tcn timer', new='br_debug(br, "TCN timer'),)),
)

LINKAGE = (
    Seed(name="EXPORT_SYMBOL becomes EXPORT_SYMBOL_GPL", object=NOTIFIER,
         expected=both(changed("__ksymtab_call_fib_notifier", "___ksymtab+call_fib_notifier",
                       "___ksymtab_gpl+call_fib_notifier")),
         after=(
        Edit(old="EXPORT_SYMBOL(call_fib_notifier);", new="EXPORT_SYMBOL_GPL(call_fib_notifier);"),)),
    Seed(name="an export gone", object=NOTIFIER,
         expected=both(changed("__ksymtab_call_fib_notifier", "__kstrtab_call_fib_notifier", more=True)),
         after=(Edit(old="EXPORT_SYMBOL(call_fib_notifier);", new=""),)),
    Seed(name="a weak symbol becomes strong", object="lib/clz_ctz.o",
         expected=both(changed("__ctzsi2")),
         after=(
        Edit(old="int __weak __ctzsi2(int val);\nint __weak __ctzsi2(int val)\n",
             new="int __ctzsi2(int val);\nint __ctzsi2(int val)\n"),)),
    Seed(name="a static becomes global", object=DUMMY,
         expected=both(changed("dummy_setup", more=True)),
         after=(
        Edit(old="static void dummy_setup(", new="void dummy_setup("),)),
    Seed(name="a changed module parameter permission", object=DUMMY,
         expected=both(changed("__param_numdummies")),
         after=(
        Edit(old="module_param(numdummies, int, 0)", new="module_param(numdummies, int, 0644)"),)),
    Seed(name="a parameter's description", object=DUMMY,
         expected=both(changed(".modinfo")),
         after=(
        Edit(old='"Number of dummy pseudo', new='"Number of Dummy pseudo'),)),
    Seed(name="an initcall level", object=NOTIFIER,
         expected=both(changed(".initcall4.init", ".initcall5.init", f"{INITCALL}4", f"{INITCALL}5")),
         after=(Edit(old="subsys_initcall(", new="fs_initcall("),)),
    Seed(name="a static function renamed", object=DUMMY,
         expected=both(changed("dummy_dev_uninit", "dummy_dev_finish")),
         after=(
        Edit(old="static void dummy_dev_uninit(", new="static void dummy_dev_finish("),
        Edit(old="= dummy_dev_uninit,", new="= dummy_dev_finish,"))),
    Seed(name="a static local renamed", object=REF,
         expected=both(changed("underflows", "underruns")),
         after=(
        Edit(old="static atomic_t underflows;", new="static atomic_t underruns;"),
        Edit(old="atomic_inc_return(&underflows)", new="atomic_inc_return(&underruns)"))),
)

LAYOUT = (
    Seed(name="a bit-field's width", object=REF,
         expected=both(changed(*REF_FIELDS, more=True)),
         after=(
        Edit(path=REF_H, old="bool\t\t\tallow_reinit:1;", new="bool\t\t\tallow_reinit;"),)),
    Seed(name="a struct member in a hole", object=REF,
         expected=both(IDENTICAL),
         after=(
        Edit(path=REF_H, old="bool\t\t\tallow_reinit:1;", new="bool\t\t\tallow_reinit:1; u8 harness_new;"),)),
    Seed(name="a struct member that moves others", object=REF,
         expected=both(changed(*REF_FIELDS)),
         after=(
        Edit(path=REF_H, old="bool\t\t\tallow_reinit:1;", new="bool\t\t\tallow_reinit:1; u64 harness_new;"),)),
    Seed(name="two static functions swapped", object=DUMMY,
         expected=both(explained("initcall-number"), debug=changed("dummy_init_module"), debug_proved=PROVED),
         after=(
        Edit(old="static void dummy_dev_uninit(struct net_device *dev)\n{\n\tfree_percpu(dev->lstats);\n}\n", new=""),
        Edit(old="static int dummy_dev_init(struct",
             new="static void dummy_dev_uninit(struct net_device *dev)\n{\n\tfree_percpu(dev->lstats);\n}\n\n"
                 "static int dummy_dev_init(struct"))),
    Seed(name="two static variables swapped", object=CONG,
         expected=both(IDENTICAL, debug=changed(".data", ".text"), debug_proved=PROVED),
         after=(
        Edit(old="static DEFINE_SPINLOCK(tcp_cong_list_lock);\nstatic LIST_HEAD(tcp_cong_list);\n",
             new="static LIST_HEAD(tcp_cong_list);\nstatic DEFINE_SPINLOCK(tcp_cong_list_lock);\n"),)),
)

NOTHING = (
    Seed(name="a comment on a line", object=REF,
         expected=both(IDENTICAL),
         after=(
        Edit(old="percpu_ref_resurrect(ref);\n}", new="percpu_ref_resurrect(ref); /* again */\n}"),)),
    Seed(name="a removed unused static", object=DUMMY,
         expected=both(IDENTICAL),
         before=(
        Edit(old="static int numdummies = 1;",
             new="static int numdummies = 1; static int __maybe_unused unused = 3;"),),
         after=(Edit(old=" static int __maybe_unused unused = 3;", new=""),)),
    Seed(name="a local variable renamed", object=NOTIFIER,
         expected=both(IDENTICAL),
         after=(
        Edit(old="unsigned int fib_seq = 0;", new="unsigned int sum = 0;"),
        Edit(old="fib_seq += ops->fib_seq_read(net);", new="sum += ops->fib_seq_read(net);"),
        Edit(old="return fib_seq;", new="return sum;"))),
    Seed(name="one BUILD_BUG_ON more", object=DUMMY,
         expected=both(explained("initcall-number", "unique-id-number")),
         after=(
        Edit(old="\tether_setup(dev);", new="\tBUILD_BUG_ON(sizeof(int) != 4); ether_setup(dev);"),)),
    Seed(name="an unused header included", object=DUMMY,
         expected=both(explained("initcall-number"), debug=changed("dummy_init_module"), debug_proved=PROVED),
         after=(
        Edit(old="#include <linux/rtnetlink.h>\n", new="#include <linux/rtnetlink.h>\n#include <linux/hrtimer.h>\n"),)),
    Seed(name="a comment of three lines above all", object=REF,
         expected=REF_LINES,
         after=(
        Edit(old="#define pr_fmt(fmt)", new="/*\n * Said.\n */\n#define pr_fmt(fmt)"),)),
    Seed(name="blank lines above WARN_ON", object=REF,
         expected=both(explained("bug-table-line")),
         after=(
        Edit(old="\tWARN_ON_ONCE(!percpu_ref_is_zero(ref));", new="\n\n\tWARN_ON_ONCE(!percpu_ref_is_zero(ref));"),)),
    Seed(name="blank lines above might_sleep", object=CONG,
         expected=both(explained("bug-table-line", "initcall-number"), debug_proved=PROVED,
                       debug=changed("tcp_ca_get_key_by_name", "tcp_assign_congestion_control",
                                     "tcp_get_default_congestion_control")),
         after=(
        Edit(old="\tmight_sleep();", new="\n\n\tmight_sleep();"),)),
    Seed(name="blank lines above pr_debug", object=TIMER,
         expected=both(IDENTICAL, debug=explained("dyndbg-line")),
         after=(
        Edit(old='\tbr_debug(br, "tcn', new='\n\n\tbr_debug(br, "tcn'),)),
    Seed(name="an ifdef'd-out member with empty stubs", object=REF,
         expected=REF_LINES,
         after=(
        Edit(path=REF_H, old="\tbool\t\t\tallow_reinit:1;\n",
             new="\tbool\t\t\tallow_reinit:1;\n#ifdef CONFIG_HARNESS\n\tvoid\t\t\t*harness;\n#endif\n"),
        Edit(path=REF_H, old="struct percpu_ref {\n",
             new="#ifdef CONFIG_HARNESS\nvoid harness_drop(struct percpu_ref_data *data);\n#else\n"
                 "static inline void harness_drop(struct percpu_ref_data *data) {}\n#endif\n\nstruct percpu_ref {\n"),
        Edit(old="\tkfree(data);\n", new="\tharness_drop(data);\n\tkfree(data);\n"))),
    Seed(name="#line-hostile: a macro continued on another line", object="lib/refcount.o",
         expected=both(explained("bug-table-line")),
         after=(
        Edit(old="#define REFCOUNT_WARN(str)\t", new="#define REFCOUNT_WARN(str) \\\n\t"),)),
    Seed(name="#line-hostile: inside the arguments of WARN_ONCE", object=REF,
         expected=both(explained("bug-table-line")),
         after=(
        Edit(old='\tWARN_ONCE(percpu_ref_is_dying(ref),\n', new='\tWARN_ONCE(percpu_ref_is_dying(ref),\n\n\n'),)),
    Seed(name="#line-hostile: nested inactive ifdefs", object=REF,
         expected=REF_LINES,
         after=(
        Edit(old="\tunsigned long __percpu *percpu_count = percpu_count_ptr(ref);\n\n\tif (percpu_count) {\n",
             new="\tunsigned long __percpu *percpu_count = percpu_count_ptr(ref);\n\n#ifdef CONFIG_HARNESS\n"
                 "#ifndef CONFIG_OTHER\n\tint a;\n#else\n\tint b;\n#endif\n#endif\n\tif (percpu_count) {\n"),)),
    Seed(name="#line-hostile: inside a comment", object=REF,
         expected=REF_LINES,
         after=(
        Edit(old="\t * Restore per-cpu operation.  smp_store_release() is paired\n",
             new="\t * Restore per-cpu operation.\n\t *\n\t * smp_store_release() is paired\n"),)),
    Seed(name="lines moved and one operator", object=CONG,
         expected=both(changed(AVAILABLE), debug=changed(AVAILABLE, "tcp_get_default_congestion_control")),
         after=(
        Edit(old=f"if (WARN_ON_ONCE(offs >= maxlen)){REST}", new=f"\n\n\t\tif (WARN_ON_ONCE(offs > maxlen)){REST}"),)),
)

SEEDS = (*CODE, *DATA, *CONFIGURED, *LINKAGE, *LAYOUT, *NOTHING)
