# SPDX-License-Identifier: GPL-2.0-only
"""The table of functions that stand in a stack without being what a report is about.

They print reports, check on behalf of others, or wait. A report's title names the first function that is none of them.
"""

from __future__ import annotations

import re
from enum import StrEnum


class Group(StrEnum):
    """Kinds of such functions; which of them a title skips depends on what it is about (`harness.vm.titles`)."""

    REPORT = "prints and unwinds"
    SANITIZER = "KASAN, KMSAN, KCSAN, KFENCE, UBSAN and their instrumentation"
    CHECK = "checks on behalf of its caller"
    STRING = "memory and string primitives"
    ALLOCATOR = "the allocators' own functions"
    LOCKS = "takes and frees locks"
    LOCKDEP = "lockdep"
    WAIT = "schedules and waits"
    INTERRUPT = "interrupt entry, timers and cross calls"
    ENTRY = "entry code, and what starts threads"
    ATOMIC = "atomics and bit operations"
    LISTS = "lists and trees"
    WORK = "runs deferred work"
    DEBUGOBJECTS = "debug objects"
    CORE = "what every driver calls of the driver core and the network core"
    REFERENCES = "drops a reference"
    SOCKETS = "allocates sockets and packets for whoever asks"


def _names(words: str) -> re.Pattern[str]:
    """A pattern from a list of patterns of names, with blanks between them."""
    return re.compile("|".join(words.split()))


MACHINERY = {
    Group.REPORT: _names(r"""
        _*dump_stack(_lvl)? dump_backtrace\w* show_(stack|regs|trace)\w* print_\w*(trace|report|bug|modules)\w* _*die\w*
        _*panic\w* vpanic oops_\w+ _*warn(_\w+)? warn_slowpath\w* report_bug\w* fixup_bug handle_bug do_(error_)?trap\w*
        do_invalid_op do_(page_fault|general_protection|double_fault|int3)\w* exc_\w+ asm_exc_\w+ asm_\w+
        _*do_page_fault invalid_op page_fault(_oops)? error_(entry|exit) general_protection bad_area\w*
        _*bad_area_nosemaphore no_context do_user_addr_fault do_kern_addr_fault kernelmode_fixup_or_oops
        spurious_\w+fault\w* double_fault stack_segment divide_error int3 trace_hardirqs_\w+ check_panic_on_warn
        get_taint (do_)?undefinstr\w* _*und_svc\w* arm_notify_die do_(DataAbort|PrefetchAbort) _*dabt_svc __pabt_svc
        do_mem_abort do_(sp|pc|translation|alignment|bad)_?\w*(fault|abort) el1\w* (arm64_)?call_break_hook brk_handler
        do_debug_exception bug_handler unwind_\w+ arch_stack_walk\w* stack_trace_\w+ save_(stack_)?trace\w*
        walk_stackframe notifier_call_chain notify_die atomic_notifier_call_chain __atomic_notifier_call_chain
        (do_)?program_check\w* bad_page_fault handle_page_fault data_access_common\w* _*schedule_bug do_trap_\w+
        ret_from_exception handle_exception bust_spinlocks __stack_chk_fail stack_overflow_detected cfi_\w+ __ubsan\w*
        printk _printk vprintk\w* __x86_indirect_thunk\w* _*x86_return_thunk __do_kernel_fault do_tag_check_fault
        die_kernel_fault smp_apic_timer_interrupt\w*
    """),
    Group.SANITIZER: _names(r"""
        _*k[am]san_\w+ _*asan_\w+ _*msan_\w+ _*kcsan_\w+ _*tsan_\w+ kfence_\w+ __kfence_\w+ _*ubsan_\w+ _*hwasan_\w+
        kasan_\w+ check_memory_region\w* memory_is_(poisoned|nonzero)\w* bytes_is_nonzero check_region_inline
        print_address_description\w* _*kmsan_\w+ val_to_string write_comp_data _*sanitizer_\w+ check_canary\w*
        report_(uaf|error|invalid\w+)\w* end_report addr_has_metadata check_poison_obj instrument_\w+ find_report_\w+
        in_report_\w+ start_report quarantine_\w+ qlist_\w+ handle_overflow ubsan_epilogue set_track\w* slab_free_hook
        poison_slab_object ____kasan\w* complete_report_info unpoison_\w+ kcsan\w*
    """),
    Group.CHECK: _names(r"""
        refcount_\w+ _*refcount_\w+ kref_\w+ _*kref_\w+ _*might_(sleep|resched|fault)\w* _*cant_\w+ check_object_size\w*
        _*check_(object_size|heap_object)\w* usercopy_(abort|warn) kobject_(add|put|get|init_and_add)\w*
        _*list_(add|del)\w*(valid)?\w* report_usercopy _*debug_(smp_processor_id|locks\w*) check_preemption_disabled
        __this_cpu_preempt_check rcu_lockdep\w* lockdep_rcu_suspicious _*schedule_bug kobject_\w+ device_add
        device_(initialize|create\w*) get_device put_device _*fortify_\w+ proc_register _?proc_(mkdir|create)\w*
        sysfs_\w+ copy_(to|from)_user\w* _copy_(to|from)_(user|iter)\w* copy_overflow _*copy_overflow copyout
        instrument_copy\w* raw_copy_\w+ simple_copy\w* copy_page_(to|from)_iter\w* usb_submit_urb bad_page
        free_page_is_bad\w* free_pages_check\w* check_stack_object should_fail\w* _*should_fail\w* fail_\w+ assertfail
        btrfs_assertfail _*phys_addr\w* rust_helper_BUG skb_panic
    """),
    Group.STRING: _names(r"""
        _*(mem(cpy|set|move|cmp|chr|scan|chr_inv)|str(n?len|n?cpy|lcpy|scpy|lcat|n?cmp|n?casecmp|chr|rchr|sep|pbrk|n?str|nchr|spn|im|dup|chrnul|replace))(_\w+)?
        kmem(dup|leak_\w+)\w* kstrdup\w* sized_strscpy _*clear_user\w* copy_user\w* __arch_copy\w* __memcpy\w*
        __memset\w* number string\w* vsnprintf snprintf scnprintf format_decode sprintf kvasprintf\w* kasprintf
        mmio(set|cpy) rep_(movs|stos)\w* memdup_user\w* vmemdup_user crc\w+ hex_dump_to_buffer nla_\w+ _*nla_\w+
        v?s?c?n?printf va_format pointer hex_string print_hex_dump\w* dev_(err|info|warn|dbg|printk)\w*
        _*dev_(err|info|warn|printk|notice)\w* _*netdev_printk vprintk\w* printk_emit ip4?6?_string\w*
        mac_address_string dev_vprintk_emit dev_printk_emit _dev_\w+ hwasan_\w+ _*hwasan_\w+
    """),
    Group.ALLOCATOR: _names(r"""
        _*k(v)?(m|z|c|re)alloc\w* _*kmem_cache_\w+ _*k(v|z)?free\w* _*kfree_sensitive slab_\w+ _*slab_\w+
        _*alloc_(pages?|slab|frozen\w*)\w* _*do_kmalloc\w* _*free_(slab|object) cache_(alloc|free|grow)\w*
        _*cache_(alloc|free|grow)\w* new_slab\w* _*vm(alloc|ap)\w* vzalloc\w* _*vfree\w* discard_slab
        free_(debug|to_partial)\w* _*free_pages?\w* __put_(single_|compound_)?page put_page\w*
        _*folio_(put|lock|unlock)\w* (__)?page_(frag|cache)_\w+ get_page_from_freelist prep_new_page rmqueue\w*
        free_unref\w* free_pcp\w* _*free_one_page release_pages destroy_large_folio alloc_(pages|page|vmap_area)\w*
        __get_free_pages? get_zeroed_page init_object on_freelist check_slab object_err slab_err kmalloc\w* _*kmalloc\w*
        dma_alloc\w* krealloc\w* __do_krealloc mempool_alloc\w* warn_alloc\w* free_to_\w+ do_slab_free do_kfree
        allocate_slab __kvmalloc\w* alloc_percpu\w* post_alloc_hook _*(set|reset)_page_owner\w* prep_new_page\w*
        free_large_kmalloc create_object sk_prot_alloc sock_kmalloc folio_alloc\w* __page_pool_alloc\w*
        page_pool_alloc\w*
    """),
    Group.LOCKS: _names(r"""
        _*(raw_)?(read|write|spin)_(try)?(un)?lock\w* _raw_\w+lock\w* do_raw_\w+ _*mutex_\w+
        _*(down|up)_(read|write|trylock|killable|interruptible|timeout|common)\w* down up _*down\w* _*up_(read|write)\w*
        rwsem_\w+ queued_\w*lock\w* native_queued_\w+ pv_queued\w* __pv_\w+ osq_\w+ percpu_\w*(down|up)\w*
        _*percpu_(down|up)\w* arch_spin_\w+ rt_mutex_\w+ ww_mutex_\w+ _*ww_mutex_\w+ lock_release\w* seqcount\w*
        read_seq\w* debug_spin_\w+ spin_(bug|dump) rwlock_bug _?bit_spin_\w+ lock_sock\w* _*lock_sock\w* release_sock
        spin_lock_\w+ local_bh_\w+ _*local_bh_\w+ rwlock_\w+ _atomic_dec_and_lock\w* __lock_sock\w* csd_lock\w*
        virt_spin_lock console_lock\w* console_trylock\w* raw_spin_rq_\w+ _*task_rq_lock\w* reiserfs_write_(un)?lock\w*
        unlock_page\w* double_rq_lock\w* double_lock_balance __cond_resched_lock _*fdatawait\w*
    """),
    Group.LOCKDEP: _names(r"""
        lock_(acquire|release|downgrade|set_class|is_held|contended|acquired)\w* _*lock_(acquire|release|set_class)\w*
        print_(circular|deadlock|usage|irq|bad|unlock|lock|freed|held|collision)\w*
        check_(prev|prevs|noncircular|deadlock|irq|usage|chain|path|wait)\w* validate_chain\w* mark_(lock|usage|held)\w*
        mark_lock_irq lookup_chain\w* register_lock_class look_up_lock_class find_lock\w* _*lockdep_\w+
        debug_check_no_locks\w* print_kernel_ident hlock_class save_trace valid_state add_lock\w* reacquire\w* _*bfs
        alloc_list_entry assign_lock_key __print_lock\w* match_held_lock rcu_lock_acquire rcu_read_lock\w* print_name
        lock_classes?_\w+ lockdep_\w+ dump_held_locks
    """),
    Group.WAIT: _names(r"""
        _*schedule(_\w+)? preempt_schedule\w* _*cond_resched\w* _*switch_to\w* context_switch
        _*wait_(for|on)_(common|completion|bit)\w* wait_for_common\w* do_wait_for_common io_schedule\w* bit_wait\w*
        out_of_line_wait\w* usleep\w* msleep\w* _*wait_rcu_gp _*mutex_lock\w* __sched_text\w* schedule_timeout\w*
        do_nanosleep wait_woken swait\w* _*flush_work\w* _*flush_workqueue wait_on_(page|buffer|bit)\w* __wait_on\w*
        folio_wait\w* _*folio_lock\w* __lock_page\w* flush_delayed_work _*cancel_work\w* sched_submit_work
        preempt_(count|notifier)\w* yield(_to)? _*refrigerator freeze_task schedule_preempt_disabled rwbase_\w+
        rt_mutex_schedule trace_sched\w* _*wake_up\w* try_to_wake_up\w* complete(_all)? default_wake_function
        autoremove_wake_function _*filemap_fdata\w* wait_on_page\w* usb_start_wait_urb fdatawait_one_bdev
        filemap_fdatawait\w* ___?preempt_schedule\w*
    """),
    Group.INTERRUPT: _names(r"""
        (smp_|sysvec_|asm_sysvec_|asm_call_)?\w*apic_timer_interrupt asm_(sysvec|call|common)\w* sysvec_\w+
        _*hrtimer_\w+ _*run_hrtimer\w* _*hrtimer_run_queues tick_\w+ update_process_times irq_(exit|enter)\w*
        _*irq_exit\w* (do|handle|common)_IRQ common_interrupt\w* ret_from_intr
        handle_(irq|edge_irq|fasteoi_irq|level_irq|domain_irq)\w* _*handle_irq\w* generic_handle\w* gic_handle_irq
        _*irq_svc call_on_irq_stack\w* do_interrupt_handler interrupt_entry
        rcu_(check_callbacks|sched_clock_irq|pending)\w* _*rcu_(pending|check)\w* check_cpu_stall\w*
        print_(other_)?cpu_stall\w* print_cpu_stall\w* rcu_dump_cpu_stacks\w* sched_show_task \w*nmi\w*
        (default_)?do_nmi end_repeat_nmi perf_event_nmi\w* arch_trigger_\w+ trigger_\w+backtrace\w* sched_clock_irq
        watchdog\w* is_softlockup scheduler_tick task_tick\w* profile_tick local_apic_timer\w* arch_timer\w*
        invoke_softirq do_softirq_own_stack apic_\w+ show_state\w* panic_smp\w* dump_cpu_task lapic\w* csd_\w+
        _*irqentry_\w+ _*idtentry\w* run_(irq|sysvec)_on_irqstack\w* reschedule_interrupt __sysvec\w* instr_\w+
        smp_call_function_(single_)?interrupt\w* generic_smp_call\w* _*flush_smp_call\w* stop_this_cpu x86_64_start\w*
        preempt_schedule_irq rcu_gp_\w+ rcu_sched_clock_irq retint_\w+
    """),
    Group.ENTRY: _names(r"""
        (do|el0|el1|entry|ret|__do)_(syscall|sys|SYSCALL|svc|INT80|int80|fast|from_fork)\w* entry_\w+ ret_from_fork\w*
        ret_fast_syscall kthread kernel_thread_helper start_secondary\w* secondary_startup\w*
        syscall_(return|trace|exit|enter)\w* invoke_syscall\w* el0t?_\w+ x86_64_start_\w+ rest_init cpu_startup_entry
        do_idle cpu_idle\w* default_idle\w* native_safe_halt arch_cpu_idle syscall_slow_exit\w* do_fast_syscall\w*
        sysenter_\w+ child_rip x64_sys_call system_call\w* __invoke_syscall do_el0_svc\w* acpi_(idle|safe_halt)\w*
        cpuidle\w* pv_native_safe_halt
    """),
    Group.ATOMIC: _names(r"""
        (arch_|raw_|_*)?atomic\w* _*(set|clear|test|change)_bit\w* arch_\w+_bit\w* _*(test_and)_\w+
        _*(read|write)_once\w* _*cmpxchg\w* _*xchg\w* queued_\w+ arch_local_\w+
        (native|kvm|paravirt|pv)_\w*(irq|save_fl|restore_fl|wait|kick)\w* _*find_(next|first|last)\w*bit\w* bitmap_\w+
        _*bitmap_\w+ hweight\w* constant_test_bit variable_test_bit _test_bit __preempt_count\w* get_current _*fls\w*
        cpumask_\w+ rep_nop cpu_relax rdtsc\w* delay_\w+ _*delay _*udelay _*const_udelay static_\w+ arch_static\w*
        INIT_LIST_HEAD __raw_\w+ (un)?likely\w* read_pnet jiffies\w* logic_\w+ io_serial_\w+ _*read[bwlq] _*write[bwlq]
        in[bwl] out[bwl]
    """),
    Group.LISTS: _names(r"""
        _*list_\w+ _*hlist_\w+ _*h?list_(add|del)\w* _*rb_\w+ rb_(next|prev|first|last|erase|insert)\w*
        _*rb_(insert|erase|rotate)\w* radix_tree_\w+ _*radix_tree_\w+ xa(s|rray)?_\w+ _*xa_\w+ idr_\w+ ida_\w+ llist_\w+
        rhashtable_\w+ _*rhashtable\w* klist_\w+ plist_\w+ lockref_\w+ _*skb_(queue|dequeue|unlink|insert)\w*
        skb_(queue|dequeue|unlink|peek)\w* mtree_\w+ mas_\w+ maple_\w+ _*sk_nulls\w*
    """),
    Group.WORK: _names(r"""
        process_(one_work|scheduled_works) worker_thread call_timer_fn expire_timers _*run_timers?\w* run_timer_softirq
        _*do_softirq\w* handle_softirqs run_ksoftirqd smpboot_thread_fn tasklet_action\w*
        rcu_(do_batch|core|process_callbacks|core_si)\w* _*rcu_(reclaim|process)\w* task_work_run kthread_worker_fn
        irq_work_\w+ cpu_stopper_thread async_run_entry_fn _*do_softirq_own_stack net_(rx|tx)_action napi_poll
        _*napi_poll\w*
    """),
    Group.DEBUGOBJECTS: _names(r"""
        _*debug_object_\w+ debug_print_object _*debug_check_no_obj_freed debug_(timer|work|hrtimer|rcu|percpu)\w*
        (init|destroy)_(timer|work|rcu)\w* _*init_work timer_(fixup|is_static)\w* work_\w+ _*mod_timer\w* add_timer\w*
        del_timer\w* debug_\w+
    """),
    Group.CORE: _names(r"""
        device_(del|unregister|remove_file|release_driver|remove_\w+)\w* usb_(kill|poison|unlink)_urb usb_start_wait_urb
        usb_(control|bulk|interrupt)_msg\w* usb_internal_control_msg devres_\w+ _*devres_\w+ release_nodes
        rollback_registered\w* unregister_netdevice\w* _*queue_(delayed_)?work\w* insert_work mod_delayed_work\w*
        lock_timer_base detach_if_pending\w* _*(mod|del|add)_timer\w* timer_(delete|shutdown)\w* _*timer_delete\w*
        try_to_del_timer\w* mark_buffer_dirty\w* _*filemap_\w*wait\w* skb_(over_|under_)?panic _*skb_(put|push|pull)\w*
        skb_(put|push|pull)\w* _*try_to_del_timer\w* device_release _*kobject_del get_device_parent
    """),
    Group.REFERENCES: _names(r"""
        _*iput\w* _*dput\w* fast_dput lock_for_kill dentry_kill _*sk_(destruct|free|put)\w* sock_put ref_tracker_\w+
        put_task\w* put_net put_pid _*put_user_ns netdev_put\w* dev_put\w* ref_tracker_dir_exit
    """),
    Group.SOCKETS: _names(r"""
        sk_alloc sk_prot_alloc sock_kmalloc _*(netdev_|napi_)?alloc_skb\w* sock_alloc_send_\w+ sock_(o|w|r)malloc
        sk_clone\w* skb_(clone|copy)\w* _*pskb_copy\w* alloc_netdev\w*
    """),
}
"""By group, the names (without compilers' suffixes) that belong to it; a whole name has to match."""

DISPATCHERS = _names(r"""
    _*vfs_(read|write|ioctl|open|iter_\w+|fsync\w*|readv|writev)\w*
    do_(vfs_ioctl|readv|writev|iter_\w+|loop_readv_writev|preadv|pwritev|splice_\w+|sendfile)\w* new_sync_(read|write)
    call_(read|write)_iter file_ioctl sys_\w+ ksys_\w+ _*sys_\w+
    sock_(sendmsg|recvmsg|write_iter|read_iter|ioctl|do_ioctl|setsockopt|poll|close|common_\w+)\w*
    _*sock_(release|sendmsg|recvmsg|create)\w* inet_(sendmsg|recvmsg|ioctl|release|stream_connect)\w*
    inet6?_(sendmsg|recvmsg|release) _{2,}sys_\w+ full_proxy_(read|write|unlocked_ioctl) kernfs_fop_\w+ proc_reg_\w+
    seq_read\w* rtnetlink_rcv_msg netlink_dump\w* _*netlink_dump\w* genl_(rcv\w*|family_rcv\w*|lock_dumpit)
    nfnetlink_rcv\w* nf_(set|get)sockopt rtnl_dump\w* call_timer_fn expire_timers _*run_timers?\w* _*hrtimer_run_queues
    _*run_hrtimer process_one_work task_work_run _*netif_receive_skb\w* tasklet_action\w* irq_exit\w*
    do_(syscall|int80|fast_syscall)\w* entry_\w+ _*do_(mmap|munmap|fault|page_fault|exit)\w* mmap_region _*mmap_region
    _*x64_sys\w* __fput nmi_handle\w* kthread x64_sys_call invoke_syscall flush_smp_call_function\w*
""")
"""Functions that call whatever somebody registered; what they called is the work that was asked for."""

CROSS_CALLS = _names(r"smp_call_function\w* on_each_cpu\w*")
"""Here a CPU waits for others to answer; what it wanted of them does not matter, they are what hangs."""

RENAMED = (
    (_names(r"_*synchronize_(sched|rcu|srcu|rcu_bh|net)(_expedited)?"), "synchronize_rcu"),
    (CROSS_CALLS, "smp_call_function"),
)
"""Functions that are one and the same to a reader: what waits for a grace period, what asks other CPUs."""
