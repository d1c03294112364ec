// SPDX-License-Identifier: GPL-2.0-only
/*
 * Takes a spinlock twice. LKDTM's SPINLOCKUP has to be written to twice, and lockdep sees the user copy in between;
 * lockdep is told to look away here, so that it is the lock's own check that must speak.
 */
#include <linux/lockdep.h>
#include <linux/module.h>
#include <linux/spinlock.h>

static DEFINE_SPINLOCK(taken);

static int __init provoke_init(void)
{
	lockdep_off();
	spin_lock(&taken);
	spin_lock(&taken);
	return 0;
}
module_init(provoke_init);

MODULE_DESCRIPTION("Takes a spinlock twice");
MODULE_LICENSE("GPL");
