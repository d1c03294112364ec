// SPDX-License-Identifier: GPL-2.0-only
/* What skb extensions promise (include/linux/skbuff.h), checked one by one. */
#include <linux/netfilter_ipv6.h>
#include <linux/tcp.h>
#include <net/ip6_route.h>

#include "cases.h"

#define ROUNDS 20000

#if IS_ENABLED(CONFIG_BRIDGE_NETFILTER)
#define ONE SKB_EXT_BRIDGE_NF
#define ONE_SIZE sizeof(struct nf_bridge_info)
#else
#define ONE SKB_EXT_SEC_PATH
#define ONE_SIZE sizeof(struct sec_path)
#endif
#if IS_ENABLED(CONFIG_BRIDGE_NETFILTER) && IS_ENABLED(CONFIG_XFRM)
#define OTHER SKB_EXT_SEC_PATH
#define OTHER_SIZE sizeof(struct sec_path)
#endif

/* What the cases write; none of it may look like a reference to something: the
 * secpath counts its states in its first int.
 */
static void fill(void *data, size_t size, u8 value)
{
	memset(data, value, size);
#ifdef CONFIG_XFRM
	if (size == sizeof(struct sec_path)) {
		((struct sec_path *)data)->len = 0;
		((struct sec_path *)data)->olen = 0;
		((struct sec_path *)data)->verified_cnt = value;
	}
#endif
}

static bool filled(const void *data, size_t size, u8 value)
{
#ifdef CONFIG_XFRM
	if (size == sizeof(struct sec_path))
		return ((const struct sec_path *)data)->verified_cnt == value;
#endif
	return !memchr_inv(data, value, size);
}

/* A buffer with extension ONE, filled with a value. */
static struct sk_buff *extended(u8 value)
{
	struct sk_buff *skb = buffer();
	void *data = skb ? skb_ext_add(skb, ONE) : NULL;

	if (!data) {
		kfree_skb(skb);
		return NULL;
	}
	fill(data, ONE_SIZE, value);
	return skb;
}

static int references(const struct sk_buff *skb)
{
	return refcount_read(&skb->extensions->refcnt);
}

/* Whether two buffers have the same memory, with so many references. */
static bool shared(const struct sk_buff *a, const struct sk_buff *b, int count)
{
	return a->active_extensions && a->active_extensions == b->active_extensions &&
	       a->extensions == b->extensions && references(a) == count;
}

CASE(a_buffer_starts_without)
{
	struct sk_buff *skb = buffer();

	want(skb);
	equal(skb->active_extensions, 0);
	want(!skb_ext_exist(skb, ONE));
	want(!skb_ext_find(skb, ONE));
out:
	kfree_skb(skb);
}

CASE(what_is_added_is_found)
{
	struct sk_buff *skb = buffer();
	void *data;

	want(skb);
	data = skb_ext_add(skb, ONE);
	want(data);
	want(skb_ext_exist(skb, ONE));
	want(skb_ext_find(skb, ONE) == data);
	equal(skb->active_extensions, BIT(ONE));
	equal(references(skb), 1);
	fill(data, ONE_SIZE, 0x11);
	want(skb_ext_add(skb, ONE) == data);
	want(filled(data, ONE_SIZE, 0x11));
out:
	kfree_skb(skb);
}

CASE(slow_gro_is_set)
{
	struct sk_buff *skb = buffer();

	want(skb);
	equal(skb->slow_gro, 0);
	want(skb_ext_add(skb, ONE));
	fill(skb_ext_find(skb, ONE), ONE_SIZE, 0);
	equal(skb->slow_gro, 1);
out:
	kfree_skb(skb);
}

CASE(several_at_once_do_not_overlap)
{
#ifdef OTHER
	struct sk_buff *skb = extended(0x21);
	u8 *one, *other;

	want(skb);
	other = skb_ext_add(skb, OTHER);
	want(other);
	fill(other, OTHER_SIZE, 0x22);
	one = skb_ext_find(skb, ONE);
	want(one);
	want(one + ONE_SIZE <= other || other + OTHER_SIZE <= one);
	want((u8 *)one >= (u8 *)skb->extensions + offsetof(struct skb_ext, data));
	want(one + ONE_SIZE <= (u8 *)skb->extensions + skb->extensions->chunks * 8);
	want(other + OTHER_SIZE <= (u8 *)skb->extensions + skb->extensions->chunks * 8);
	want(filled(one, ONE_SIZE, 0x21));
	want(filled(other, OTHER_SIZE, 0x22));
	equal(skb->active_extensions, BIT(ONE) | BIT(OTHER));
out:
	kfree_skb(skb);
#else
	skip("this kernel has one kind of extension");
out:;
#endif
}

CASE(the_other_order_does_not_overlap)
{
#ifdef OTHER
	struct sk_buff *skb = buffer();
	u8 *one, *other;

	want(skb);
	other = skb_ext_add(skb, OTHER);
	want(other);
	fill(other, OTHER_SIZE, 0x22);
	one = skb_ext_add(skb, ONE);
	want(one);
	fill(one, ONE_SIZE, 0x21);
	want(other == skb_ext_find(skb, OTHER));
	want(one + ONE_SIZE <= other || other + OTHER_SIZE <= one);
	want(filled(other, OTHER_SIZE, 0x22));
out:
	kfree_skb(skb);
#else
	skip("this kernel has one kind of extension");
out:;
#endif
}

CASE(the_memory_has_room_for_all)
{
	struct sk_buff *skb = buffer();
	unsigned int id;

	want(skb);
	for (id = 0; id < SKB_EXT_NUM; id++) {
		void *data = skb_ext_add(skb, id);

		want(data);
		/* the secpath and others count references in what they hold */
		memset(data, 0, 8);
	}
	want(skb->extensions->chunks * 8 <= ksize(skb->extensions));
	equal(hweight8(skb->active_extensions), SKB_EXT_NUM);
out:
	if (skb)
		for (id = 0; id < SKB_EXT_NUM; id++)
			skb_ext_del(skb, id);
	kfree_skb(skb);
}

CASE(a_clone_shares)
{
	struct sk_buff *skb = extended(0x31), *clone = NULL;

	want(skb);
	clone = skb_clone(skb, GFP_KERNEL);
	want(clone);
	want(shared(skb, clone, 2));
	kfree_skb(clone);
	clone = NULL;
	equal(references(skb), 1);
	want(filled(skb_ext_find(skb, ONE), ONE_SIZE, 0x31));
out:
	kfree_skb(clone);
	kfree_skb(skb);
}

CASE(a_clone_outlives_its_original)
{
	struct sk_buff *skb = extended(0x32), *clone = NULL;

	want(skb);
	clone = skb_clone(skb, GFP_KERNEL);
	want(clone);
	kfree_skb(skb);
	skb = NULL;
	equal(references(clone), 1);
	want(filled(skb_ext_find(clone, ONE), ONE_SIZE, 0x32));
out:
	kfree_skb(clone);
	kfree_skb(skb);
}

CASE(fclones_share_in_either_order)
{
	struct sk_buff *skb, *clone;
	int first;

	for (first = 0; first < 2; first++) {
		skb = alloc_skb_fclone(256, GFP_KERNEL);
		clone = NULL;
		want(skb);
		want(skb_ext_add(skb, ONE));
		fill(skb_ext_find(skb, ONE), ONE_SIZE, 0x33);
		clone = skb_clone(skb, GFP_KERNEL);
		want(clone);
		equal(clone->fclone, SKB_FCLONE_CLONE);
		want(shared(skb, clone, 2));
		kfree_skb(first ? skb : clone);
		if (first)
			skb = NULL;
		else
			clone = NULL;
		equal(references(skb ?: clone), 1);
		kfree_skb(skb ?: clone);
		skb = clone = NULL;
	}
out:
	kfree_skb(clone);
	kfree_skb(skb);
}

CASE(writing_to_what_is_shared_copies)
{
	struct sk_buff *skb = extended(0x41), *clone = NULL;
	void *data;

	want(skb);
	clone = skb_clone(skb, GFP_KERNEL);
	want(clone);
	data = skb_ext_add(clone, ONE);
	want(data);
	want(clone->extensions != skb->extensions);
	want(filled(data, ONE_SIZE, 0x41));
	fill(data, ONE_SIZE, 0x42);
	equal(references(skb), 1);
	equal(references(clone), 1);
	want(filled(skb_ext_find(skb, ONE), ONE_SIZE, 0x41));
	want(filled(skb_ext_find(clone, ONE), ONE_SIZE, 0x42));
out:
	kfree_skb(clone);
	kfree_skb(skb);
}

CASE(writing_by_the_original_leaves_the_clone_alone)
{
	struct sk_buff *skb = extended(0x43), *clone = NULL;

	want(skb);
	clone = skb_clone(skb, GFP_KERNEL);
	want(clone);
	want(skb_ext_add(skb, ONE));
	fill(skb_ext_find(skb, ONE), ONE_SIZE, 0x44);
	want(filled(skb_ext_find(clone, ONE), ONE_SIZE, 0x43));
	equal(references(clone), 1);
out:
	kfree_skb(clone);
	kfree_skb(skb);
}

CASE(adding_to_a_clone_does_not_add_to_its_original)
{
#ifdef OTHER
	struct sk_buff *skb = extended(0x45), *clone = NULL;

	want(skb);
	clone = skb_clone(skb, GFP_KERNEL);
	want(clone);
	want(skb_ext_add(clone, OTHER));
	fill(skb_ext_find(clone, OTHER), OTHER_SIZE, 0x46);
	want(!skb_ext_exist(skb, OTHER));
	want(skb_ext_exist(skb, ONE));
	want(filled(skb_ext_find(skb, ONE), ONE_SIZE, 0x45));
	want(filled(skb_ext_find(clone, ONE), ONE_SIZE, 0x45));
	equal(references(skb), 1);
	equal(references(clone), 1);
out:
	kfree_skb(clone);
	kfree_skb(skb);
#else
	skip("this kernel has one kind of extension");
out:;
#endif
}

CASE(deleting_clears_the_bit_and_nothing_else)
{
#ifdef OTHER
	struct sk_buff *skb = extended(0x51);

	want(skb);
	want(skb_ext_add(skb, OTHER));
	fill(skb_ext_find(skb, OTHER), OTHER_SIZE, 0x52);
	skb_ext_del(skb, OTHER);
	want(!skb_ext_exist(skb, OTHER));
	want(!skb_ext_find(skb, OTHER));
	want(filled(skb_ext_find(skb, ONE), ONE_SIZE, 0x51));
	equal(references(skb), 1);
out:
	kfree_skb(skb);
#else
	skip("this kernel has one kind of extension");
out:;
#endif
}

CASE(deleting_on_a_clone_needs_no_memory)
{
#ifdef OTHER
	struct sk_buff *skb = extended(0x53), *clone = NULL;
	struct skb_ext *before;

	want(skb);
	want(skb_ext_add(skb, OTHER));
	fill(skb_ext_find(skb, OTHER), OTHER_SIZE, 0x54);
	clone = skb_clone(skb, GFP_KERNEL);
	want(clone);
	before = skb->extensions;
	skb_ext_del(clone, ONE);
	/* no copy was made: nothing that could have failed */
	want(clone->extensions == before && skb->extensions == before);
	equal(references(skb), 2);
	want(!skb_ext_exist(clone, ONE));
	want(skb_ext_exist(clone, OTHER));
	want(filled(skb_ext_find(skb, ONE), ONE_SIZE, 0x53));
	want(filled(skb_ext_find(skb, OTHER), OTHER_SIZE, 0x54));
out:
	kfree_skb(clone);
	kfree_skb(skb);
#else
	skip("this kernel has one kind of extension");
out:;
#endif
}

CASE(deleting_the_last_one_gives_the_memory_back)
{
	struct sk_buff *skb = extended(0x55), *clone = NULL;

	want(skb);
	clone = skb_clone(skb, GFP_KERNEL);
	want(clone);
	skb_ext_del(clone, ONE);
	equal(clone->active_extensions, 0);
	equal(references(skb), 1);
	want(filled(skb_ext_find(skb, ONE), ONE_SIZE, 0x55));
out:
	kfree_skb(clone);
	kfree_skb(skb);
}

CASE(deleting_what_is_not_there_does_nothing)
{
	struct sk_buff *skb = buffer();

	want(skb);
	/* read without a bit, this pointer is a fault */
	skb->extensions = (void *)0x6b6b6b6b6b6b6b6bUL;
	skb_ext_del(skb, ONE);
	equal(skb->active_extensions, 0);
out:
	kfree_skb(skb);
}

/* Allocations fail on demand (Documentation/fault-injection): the next one of this task. */
#ifdef CONFIG_FAILSLAB
static void fail_next(bool fail)
{
	WRITE_ONCE(current->fail_nth, fail);
}
#endif

CASE(adding_without_memory_leaves_nothing)
{
#ifdef CONFIG_FAILSLAB
	struct sk_buff *skb = buffer();
	bool failed;
	void *data;

	want(skb);
	fail_next(true);
	data = skb_ext_add(skb, ONE);
	failed = !READ_ONCE(current->fail_nth);
	fail_next(false);
	want(failed);
	want(!data);
	equal(skb->active_extensions, 0);
	/* and with memory it goes on from there */
	data = skb_ext_add(skb, ONE);
	want(data);
	fill(data, ONE_SIZE, 0);
	equal(skb->active_extensions, BIT(ONE));
out:
	kfree_skb(skb);
#else
	skip("this kernel cannot have an allocation fail");
out:;
#endif
}

CASE(writing_to_what_is_shared_without_memory_changes_nothing)
{
#ifdef CONFIG_FAILSLAB
	struct sk_buff *skb = extended(0x43), *clone = NULL;
	bool failed;
	void *data;

	want(skb);
	clone = skb_clone(skb, GFP_KERNEL);
	want(clone);
	fail_next(true);
	data = skb_ext_add(clone, ONE);
	failed = !READ_ONCE(current->fail_nth);
	fail_next(false);
	want(failed);
	want(!data);
	want(shared(skb, clone, 2));
	want(filled(skb_ext_find(clone, ONE), ONE_SIZE, 0x43));
#ifdef OTHER
	fail_next(true);
	data = skb_ext_add(clone, OTHER);
	fail_next(false);
	want(!data);
	want(shared(skb, clone, 2));
	equal(clone->active_extensions, BIT(ONE));
#endif
out:
	kfree_skb(clone);
	kfree_skb(skb);
#else
	skip("this kernel cannot have an allocation fail");
out:;
#endif
}

CASE(deleting_allocates_nothing)
{
#ifdef CONFIG_FAILSLAB
	struct sk_buff *skb = extended(0x44), *clone = NULL;
	bool asked;

	want(skb);
#ifdef OTHER
	want(skb_ext_add(skb, OTHER));
	fill(skb_ext_find(skb, OTHER), OTHER_SIZE, 0x45);
#endif
	clone = skb_clone(skb, GFP_KERNEL);
	want(clone);
	fail_next(true);
	skb_ext_del(clone, ONE);
	asked = !READ_ONCE(current->fail_nth);
	fail_next(false);
	want(!asked);
	want(!skb_ext_exist(clone, ONE));
	want(filled(skb_ext_find(skb, ONE), ONE_SIZE, 0x44));
out:
	kfree_skb(clone);
	kfree_skb(skb);
#else
	skip("this kernel cannot have an allocation fail");
out:;
#endif
}

CASE(adding_again_after_a_shared_delete_starts_anew)
{
#ifdef OTHER
	struct sk_buff *skb = extended(0x56), *clone = NULL;

	want(skb);
	want(skb_ext_add(skb, OTHER));
	fill(skb_ext_find(skb, OTHER), OTHER_SIZE, 0x57);
	clone = skb_clone(skb, GFP_KERNEL);
	want(clone);
	skb_ext_del(clone, ONE);
	want(skb_ext_add(clone, ONE));
	fill(skb_ext_find(clone, ONE), ONE_SIZE, 0x58);
	want(clone->extensions != skb->extensions);
	want(filled(skb_ext_find(skb, ONE), ONE_SIZE, 0x56));
	want(filled(skb_ext_find(clone, ONE), ONE_SIZE, 0x58));
	want(filled(skb_ext_find(clone, OTHER), OTHER_SIZE, 0x57));
	equal(references(skb), 1);
	equal(references(clone), 1);
out:
	kfree_skb(clone);
	kfree_skb(skb);
#else
	skip("this kernel has one kind of extension");
out:;
#endif
}

/* With no bit set the pointer means nothing: whatever reads it, faults. */
CASE(the_pointer_is_not_read_without_a_bit)
{
	struct sk_buff *skb = buffer(), *clone = NULL, *copy = NULL, *to = NULL;
	struct skb_ext *poison = (void *)0x6b6b6b6b6b6b6b6bUL;

	want(skb);
	skb_put_zero(skb, 64);
	skb->extensions = poison;
	clone = skb_clone(skb, GFP_KERNEL);
	want(clone);
	equal(clone->active_extensions, 0);
	clone->extensions = poison;
	copy = skb_copy(skb, GFP_KERNEL);
	want(copy);
	equal(copy->active_extensions, 0);
	copy->extensions = poison;
	want(!pskb_expand_head(copy, 64, 0, GFP_KERNEL));
	to = buffer();
	want(to);
	to->extensions = poison;
	skb_ext_copy(to, skb);
	equal(to->active_extensions, 0);
	to->extensions = poison;
	skb_ext_reset(to);
	skb_ext_put(to);
	skb_morph(to, skb);
	equal(to->active_extensions, 0);
	to->extensions = poison;
	/* but adding one must not take it for memory */
	want(skb_ext_add(copy, ONE));
	want(copy->extensions != poison);
	fill(skb_ext_find(copy, ONE), ONE_SIZE, 0);
out:
	kfree_skb(to);
	kfree_skb(copy);
	kfree_skb(clone);
	kfree_skb(skb);
}

/* What every way to copy a buffer has in common: the copy shares, and goes alone. */
static void copied_by(struct result *result, struct sk_buff *(*copy)(struct sk_buff *))
{
	struct sk_buff *skb = extended(0x61), *other = NULL;

	want(skb);
	skb_put_zero(skb, 64);
	other = copy(skb);
	want(other);
	want(shared(skb, other, 2));
	kfree_skb(other);
	other = NULL;
	equal(references(skb), 1);
	want(filled(skb_ext_find(skb, ONE), ONE_SIZE, 0x61));
out:
	kfree_skb(other);
	kfree_skb(skb);
}

static struct sk_buff *by_skb_copy(struct sk_buff *skb)
{
	return skb_copy(skb, GFP_KERNEL);
}

static struct sk_buff *by_pskb_copy(struct sk_buff *skb)
{
	return pskb_copy(skb, GFP_KERNEL);
}

static struct sk_buff *by_skb_copy_expand(struct sk_buff *skb)
{
	return skb_copy_expand(skb, 128, 128, GFP_KERNEL);
}

CASE(skb_copy_keeps_them)
{
	copied_by(result, by_skb_copy);
}

CASE(pskb_copy_keeps_them)
{
	copied_by(result, by_pskb_copy);
}

CASE(skb_copy_expand_keeps_them)
{
	copied_by(result, by_skb_copy_expand);
}

CASE(expanding_the_head_keeps_them)
{
	struct sk_buff *skb = extended(0x64), *clone = NULL;

	want(skb);
	skb_put_zero(skb, 64);
	clone = skb_clone(skb, GFP_KERNEL);
	want(clone);
	want(!pskb_expand_head(clone, 128, 128, GFP_KERNEL));
	want(shared(skb, clone, 2));
out:
	kfree_skb(clone);
	kfree_skb(skb);
}

CASE(unsharing_keeps_them)
{
	struct sk_buff *skb = extended(0x65), *mine;

	want(skb);
	skb_get(skb);
	mine = skb_unshare(skb_clone(skb, GFP_KERNEL), GFP_KERNEL);
	kfree_skb(skb);
	want(mine);
	want(shared(skb, mine, 2));
	kfree_skb(mine);
	equal(references(skb), 1);
out:
	kfree_skb(skb);
}

CASE(morphing_drops_the_own_and_shares_the_other)
{
	struct sk_buff *skb = extended(0x66), *to = extended(0x67), *witness = NULL;

	want(skb);
	want(to);
	witness = skb_clone(to, GFP_KERNEL);
	want(witness);
	equal(references(witness), 2);
	skb_morph(to, skb);
	equal(references(witness), 1);
	want(shared(skb, to, 2));
out:
	kfree_skb(witness);
	kfree_skb(to);
	kfree_skb(skb);
}

CASE(copying_drops_the_own_and_shares_the_other)
{
	struct sk_buff *skb = extended(0x68), *to = extended(0x69), *witness = NULL;

	want(skb);
	want(to);
	witness = skb_clone(to, GFP_KERNEL);
	want(witness);
	skb_ext_copy(to, skb);
	equal(references(witness), 1);
	want(shared(skb, to, 2));
out:
	kfree_skb(witness);
	kfree_skb(to);
	kfree_skb(skb);
}

CASE(copying_nothing_leaves_nothing)
{
	struct sk_buff *skb = buffer(), *to = extended(0x6a), *witness = NULL;

	want(skb);
	want(to);
	witness = skb_clone(to, GFP_KERNEL);
	want(witness);
	skb_ext_copy(to, skb);
	equal(to->active_extensions, 0);
	equal(references(witness), 1);
out:
	kfree_skb(witness);
	kfree_skb(to);
	kfree_skb(skb);
}

CASE(resetting_drops_all)
{
	struct sk_buff *skb = extended(0x6c), *witness = NULL;

	want(skb);
	witness = skb_clone(skb, GFP_KERNEL);
	want(witness);
	skb_ext_reset(skb);
	equal(skb->active_extensions, 0);
	equal(references(witness), 1);
out:
	kfree_skb(witness);
	kfree_skb(skb);
}

CASE(scrubbing_drops_the_bridge_data)
{
#if IS_ENABLED(CONFIG_BRIDGE_NETFILTER)
	struct sk_buff *skb = extended(0x6d);

	want(skb);
	skb_scrub_packet(skb, true);
	want(!skb_ext_exist(skb, SKB_EXT_BRIDGE_NF));
out:
	kfree_skb(skb);
#else
	skip("this kernel has no bridge netfilter");
out:;
#endif
}

/* A GSO buffer with a linear header and one page for each segment. */
static struct sk_buff *big(unsigned int segments)
{
	struct sk_buff *skb = alloc_skb(512, GFP_KERNEL);
	unsigned int i;

	if (!skb)
		return NULL;
	skb_reserve(skb, 128);
	skb_reset_mac_header(skb);
	skb_put_zero(skb, ETH_HLEN);
	skb_set_network_header(skb, skb->len);
	skb_put_zero(skb, 20);
	skb_set_transport_header(skb, skb->len);
	skb_put_zero(skb, sizeof(struct tcphdr));
	skb->mac_len = ETH_HLEN;
	skb->protocol = htons(ETH_P_IP);
	for (i = 0; i < segments; i++) {
		struct page *page = alloc_page(GFP_KERNEL | __GFP_ZERO);

		if (!page)
			break;
		skb_add_rx_frag(skb, i, page, 0, 1000, PAGE_SIZE);
	}
	skb_shinfo(skb)->gso_size = 1000;
	skb_shinfo(skb)->gso_type = SKB_GSO_TCPV4;
	skb_shinfo(skb)->gso_segs = segments;
	skb->ip_summed = CHECKSUM_PARTIAL;
	skb->csum_start = skb_transport_header(skb) - skb->head;
	skb->csum_offset = offsetof(struct tcphdr, check);
	/* what is in front of the payload belongs to every segment */
	__skb_pull(skb, ETH_HLEN + 20 + sizeof(struct tcphdr));
	return skb;
}

CASE(every_segment_has_a_reference)
{
	struct sk_buff *skb = big(3), *segments = NULL, *each;
	unsigned int count = 0;

	want(skb);
	want(skb_ext_add(skb, ONE));
	fill(skb_ext_find(skb, ONE), ONE_SIZE, 0x71);
	segments = skb_segment(skb, NETIF_F_SG | NETIF_F_HW_CSUM);
	if (IS_ERR(segments)) {
		say("# skb_segment() failed with %ld\n", PTR_ERR(segments));
		segments = NULL;
		result->failed = true;
		goto out;
	}
	/* each is let go of alone: the count says how many are left */
	while ((each = segments)) {
		segments = each->next;
		skb_mark_not_on_list(each);
		if (skb_ext_exist(each, ONE) && each->extensions == skb->extensions &&
		    references(skb) == 4 - count)
			count++;
		kfree_skb(each);
	}
	equal(count, 3);
	equal(references(skb), 1);
	want(filled(skb_ext_find(skb, ONE), ONE_SIZE, 0x71));
out:
	kfree_skb_list(segments);
	kfree_skb(skb);
}

#define PAYLOAD 3000
#define FRAGMENT 1280

/* The extensions of the packet that is being split, and what came of it. */
static struct {
	struct skb_ext *of;
	unsigned int all, have;
} fragments;

static int take_fragment(struct net *net, struct sock *sk, struct sk_buff *skb)
{
	fragments.all++;
	if (skb_ext_exist(skb, ONE) && skb->extensions == fragments.of)
		fragments.have++;
	consume_skb(skb);
	return 0;
}

/* A packet that came in fragments, was put together and has to leave in such;
 * its header is for the caller to fill.
 */
static struct sk_buff *reassembled(unsigned int header)
{
	struct sk_buff *skb = alloc_skb(128 + header + PAYLOAD, GFP_KERNEL);
	void *data;

	if (!skb)
		return NULL;
	skb_reserve(skb, 128);
	skb_reset_network_header(skb);
	skb_put_zero(skb, header + PAYLOAD);
	skb_set_transport_header(skb, header);
	skb->ignore_df = 1;
	data = skb_ext_add(skb, ONE);
	if (!data) {
		kfree_skb(skb);
		return NULL;
	}
	fill(data, ONE_SIZE, 0);
	memset(&fragments, 0, sizeof(fragments));
	fragments.of = skb->extensions;
	return skb;
}

CASE(fragments_of_ipv4_have_a_reference)
{
	struct sk_buff *skb = reassembled(sizeof(struct iphdr)), *given;
	struct flowi4 flow = { .daddr = htonl(INADDR_LOOPBACK) };
	struct rtable *route;

	want(skb);
	route = ip_route_output_key(&init_net, &flow);
	want(!IS_ERR(route));
	skb_dst_set(skb, &route->dst);
	skb->protocol = htons(ETH_P_IP);
	*ip_hdr(skb) = (struct iphdr) {
		.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP, .tot_len = htons(skb->len),
		.saddr = htonl(INADDR_LOOPBACK), .daddr = htonl(INADDR_LOOPBACK),
	};
	IPCB(skb)->frag_max_size = FRAGMENT;
	given = skb;
	skb = NULL; /* whatever comes of it, it is gone */
	equal(ip_do_fragment(&init_net, NULL, given, take_fragment), 0);
	equal(fragments.all, 3);
	equal(fragments.have, 3);
out:
	kfree_skb(skb);
}

CASE(fragments_of_ipv6_have_a_reference)
{
	struct sk_buff *skb = reassembled(sizeof(struct ipv6hdr)), *given;
	struct flowi6 flow = { .daddr = IN6ADDR_LOOPBACK_INIT };
	const struct nf_ipv6_ops *ops;
	struct dst_entry *dst;
	int error = -EAFNOSUPPORT;

	want(skb);
	dst = ip6_route_output(&init_net, NULL, &flow);
	skb_dst_set(skb, dst);
	want(!dst->error);
	skb->protocol = htons(ETH_P_IPV6);
	*ipv6_hdr(skb) = (struct ipv6hdr) {
		.version = 6, .hop_limit = 64, .nexthdr = IPPROTO_UDP, .payload_len = htons(PAYLOAD),
		.saddr = IN6ADDR_LOOPBACK_INIT, .daddr = IN6ADDR_LOOPBACK_INIT,
	};
	IP6CB(skb)->frag_max_size = FRAGMENT;
	rcu_read_lock();
	ops = nf_get_ipv6_ops();
	if (ops) {
		given = skb;
		skb = NULL;
		error = ops->fragment(&init_net, NULL, given, take_fragment);
	}
	rcu_read_unlock();
	equal(error, 0);
	equal(fragments.all, 3);
	equal(fragments.have, 3);
out:
	kfree_skb(skb);
}

CASE(a_stolen_head_gives_them_back)
{
	struct sk_buff *skb = extended(0x72), *witness = NULL;
	void *head;

	want(skb);
	witness = buffer();
	want(witness);
	skb_ext_copy(witness, skb);
	equal(references(witness), 2);
	/* as after skb_try_coalesce(): the data went on, the buffer goes */
	head = skb->head;
	kfree_skb_partial(skb, true);
	skb = NULL;
	kfree(head);
	equal(references(witness), 1);
out:
	kfree_skb(witness);
	kfree_skb(skb);
}

CASE(napi_gives_them_back)
{
	struct sk_buff *skb = extended(0x73), *witness = NULL;

	want(skb);
	witness = buffer();
	want(witness);
	skb_ext_copy(witness, skb);
	local_bh_disable();
	napi_consume_skb(skb, 1);
	local_bh_enable();
	skb = NULL;
	equal(references(witness), 1);
out:
	kfree_skb(witness);
	kfree_skb(skb);
}

#define SEGMENT 1000

/* A segment of a TCP stream, as a driver puts it together: a page that holds it
 * all, in the buffer that napi_get_frags() gave.
 */
static bool segment(struct sk_buff *skb, u32 number)
{
	const size_t headers = sizeof(struct ethhdr) + sizeof(struct iphdr) + sizeof(struct tcphdr);
	struct page *page = alloc_page(GFP_ATOMIC | __GFP_ZERO);
	struct tcphdr *tcp;
	struct iphdr *ip;

	if (!page)
		return false;
	((struct ethhdr *)page_address(page))->h_proto = htons(ETH_P_IP);
	ip = page_address(page) + sizeof(struct ethhdr);
	*ip = (struct iphdr) {
		.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_TCP, .frag_off = htons(IP_DF),
		.tot_len = htons(headers - sizeof(struct ethhdr) + SEGMENT),
		.saddr = htonl(INADDR_LOOPBACK), .daddr = htonl(INADDR_LOOPBACK),
	};
	ip_send_check(ip);
	tcp = (struct tcphdr *)(ip + 1);
	tcp->seq = htonl(number * SEGMENT);
	tcp->doff = sizeof(*tcp) / 4;
	tcp->ack = 1;
	skb_add_rx_frag(skb, 0, page, 0, headers + SEGMENT, PAGE_SIZE);
	skb->ip_summed = CHECKSUM_UNNECESSARY;
	return true;
}

static int poll_nothing(struct napi_struct *napi, int budget)
{
	return 0;
}

CASE(gro_takes_them_from_a_buffer_that_it_uses_again)
{
	static const u8 address[MAX_ADDR_LEN];
	struct net_device *dev = kzalloc(sizeof(*dev), GFP_KERNEL);
	struct sk_buff *witness = NULL, *skb;
	struct napi_struct *napi = kzalloc(sizeof(*napi), GFP_KERNEL);
	gro_result_t held = GRO_NORMAL, merged = GRO_NORMAL;
	bool added = false, again = false;
	unsigned int active = ~0;

	witness = buffer();
	want(dev && napi && witness);
	/* a device that only NAPI ever sees; what GRO holds at the end goes with it, and up to nobody */
	init_dummy_netdev(dev);
	dev->dev_addr = address;
	dev->hard_header_len = ETH_HLEN;
	dev->features = NETIF_F_GRO;
	dev->gro_max_size = GRO_LEGACY_MAX_SIZE;
	netif_napi_add(dev, napi, poll_nothing);
	local_bh_disable();
	skb = napi_get_frags(napi);
	if (skb && segment(skb, 0))
		held = napi_gro_frags(napi);
	skb = held == GRO_HELD ? napi_get_frags(napi) : NULL;
	if (skb && segment(skb, 1) && skb_ext_add(skb, ONE)) {
		fill(skb_ext_find(skb, ONE), ONE_SIZE, 0);
		skb_ext_copy(witness, skb);
		added = references(witness) == 2;
		merged = napi_gro_frags(napi);
		again = napi_get_frags(napi) == skb;
		active = again ? skb->active_extensions : ~0;
	}
	local_bh_enable();
	netif_napi_del(napi);
	equal(held, GRO_HELD);
	want(added);
	equal(merged, GRO_MERGED_FREE);
	want(again);
	equal(active, 0);
	equal(references(witness), 1);
out:
	kfree_skb(witness);
	kfree(napi);
	kfree(dev);
}

/* The allocator hands out last what was freed last on a CPU: that an address
 * comes back says that it was freed.
 */
CASE(memory_is_freed_with_its_last_buffer)
{
	struct sk_buff *skb = NULL, *next = NULL;
	struct skb_ext *first;

	if (IS_ENABLED(CONFIG_KASAN))
		skip("KASAN keeps what is freed for a while");
	skb = buffer();
	next = buffer();
	want(skb);
	want(next);
	local_bh_disable();
	first = skb_ext_add(skb, ONE) ? skb->extensions : NULL;
	if (first)
		fill(skb_ext_find(skb, ONE), ONE_SIZE, 0);
	skb_ext_reset(skb);
	if (skb_ext_add(next, ONE))
		fill(skb_ext_find(next, ONE), ONE_SIZE, 0);
	local_bh_enable();
	want(first);
	want(next->active_extensions);
	want(next->extensions == first);
out:
	kfree_skb(next);
	kfree_skb(skb);
}

/* What was freed still says what it was when it was: who counts down atomically leaves a zero behind. */
CASE(the_last_reference_is_read_and_not_counted_down)
{
	struct sk_buff *skb = NULL, *clone = NULL;
	struct skb_ext *ext = NULL;
	int shared_count, left;

	if (IS_ENABLED(CONFIG_KASAN) || want_init_on_free())
		skip("the allocator changes what is freed");
	skb = buffer();
	want(skb);
	want(skb_ext_add(skb, ONE));
	fill(skb_ext_find(skb, ONE), ONE_SIZE, 0);
	clone = skb_clone(skb, GFP_KERNEL);
	want(clone);
	ext = skb->extensions;
	equal(refcount_read(&ext->refcnt), 2);
	/* nobody else of this CPU gets the memory meanwhile */
	local_bh_disable();
	skb_ext_reset(clone);
	shared_count = refcount_read(&ext->refcnt);
	skb_ext_reset(skb);
	left = refcount_read(&ext->refcnt);
	local_bh_enable();
	if (left == 0x6b6b6b6b)
		skip("the allocator poisons what is freed");
	equal(shared_count, 1);
	equal(left, 1);
out:
	kfree_skb(clone);
	kfree_skb(skb);
}

CASE(the_header_is_cleared_and_the_payload_is_not)
{
	struct sk_buff *skb = NULL, *next = NULL;
	struct skb_ext *first = NULL;
	size_t i;
	u8 *last;

	if (IS_ENABLED(CONFIG_KASAN) || want_init_on_alloc(GFP_ATOMIC))
		skip("the allocator changes what is freed");
	skb = buffer();
	next = buffer();
	want(skb);
	want(next);
	local_bh_disable();
	if (skb_ext_add(skb, ONE)) {
		first = skb->extensions;
		fill(skb_ext_find(skb, ONE), ONE_SIZE, 0x5a);
	}
#ifdef OTHER
	/* an offset that the next header must not keep */
	if (first && skb_ext_add(skb, OTHER))
		fill(skb_ext_find(skb, OTHER), OTHER_SIZE, 0x5b);
#endif
	last = first ? (u8 *)skb_ext_find(skb, ONE) + ONE_SIZE - 1 : NULL;
	skb_ext_reset(skb);
	skb_ext_add(next, ONE);
	local_bh_enable();
	want(first);
	want(next->active_extensions);
	if (next->extensions != first)
		skip("the same memory did not come back");
	equal(references(next), 1);
	for (i = 0; i < SKB_EXT_NUM; i++)
		equal(!!next->extensions->offset[i], i == ONE);
	equal(*last, 0x5a);
out:
	if (next && next->active_extensions)
		fill(skb_ext_find(next, ONE), ONE_SIZE, 0);
	kfree_skb(next);
	kfree_skb(skb);
}

CASE(a_secpath_deleted_on_a_clone_stays_with_the_original)
{
#if defined(CONFIG_XFRM) && defined(OTHER)
	struct xfrm_state *state = xfrm_state_alloc(&init_net);
	struct sk_buff *skb = NULL, *clone = NULL;

	want(state);
	skb = secured(state);
	want(skb);
	want(skb_ext_add(skb, ONE));
	fill(skb_ext_find(skb, ONE), ONE_SIZE, 0x74);
	clone = skb_clone(skb, GFP_KERNEL);
	want(clone);
	skb_ext_del(clone, SKB_EXT_SEC_PATH);
	equal(refcount_read(&state->refcnt), 2);
	equal(skb_sec_path(skb)->len, 1);
	want(skb_sec_path(skb)->xvec[0] == state);
	kfree_skb(skb);
	skb = NULL;
	want(!secpath_exists(clone));
	kfree_skb(clone);
	clone = NULL;
	equal(refcount_read(&state->refcnt), 1);
out:
	kfree_skb(clone);
	kfree_skb(skb);
	release(state);
#else
	skip("this kernel has one kind of extension");
out:;
#endif
}

/* Threads on all CPUs take and drop references to the same memory, and write. */
struct crowd {
	struct sk_buff *skb;
	atomic_t left;
	atomic_t wrong;
	struct completion done;
};

static int mill_about(void *data)
{
	struct crowd *crowd = data;
	unsigned int i;

	for (i = 0; i < ROUNDS; i++) {
		struct sk_buff *clone = skb_clone(crowd->skb, GFP_KERNEL);

		if (!clone || !filled(skb_ext_find(clone, ONE), ONE_SIZE, 0x75)) {
			atomic_inc(&crowd->wrong);
		} else if (i % 8 == 0) {
			void *mine = skb_ext_add(clone, ONE);

			if (mine)
				fill(mine, ONE_SIZE, i);
			else
				atomic_inc(&crowd->wrong);
		}
		kfree_skb(clone);
		cond_resched();
	}
	if (atomic_dec_and_test(&crowd->left))
		complete(&crowd->done);
	return 0;
}

CASE(references_are_right_with_many_at_once)
{
	struct crowd crowd = { .skb = extended(0x75) };
	unsigned int cpu, started = 0;

	want(crowd.skb);
	init_completion(&crowd.done);
	atomic_set(&crowd.left, num_online_cpus());
	for_each_online_cpu(cpu) {
		struct task_struct *task = kthread_create_on_cpu(mill_about, &crowd, cpu, "skb_ext/%u");

		if (IS_ERR(task)) {
			if (atomic_dec_and_test(&crowd.left))
				complete(&crowd.done);
			continue;
		}
		started++;
		wake_up_process(task);
	}
	wait_for_completion(&crowd.done);
	equal(started, num_online_cpus());
	equal(atomic_read(&crowd.wrong), 0);
	equal(references(crowd.skb), 1);
	want(filled(skb_ext_find(crowd.skb, ONE), ONE_SIZE, 0x75));
out:
	kfree_skb(crowd.skb);
}

const struct test_case extension_cases[] = {
	ENTRY(a_buffer_starts_without),
	ENTRY(what_is_added_is_found),
	ENTRY(slow_gro_is_set),
	ENTRY(several_at_once_do_not_overlap),
	ENTRY(the_other_order_does_not_overlap),
	ENTRY(the_memory_has_room_for_all),
	ENTRY(a_clone_shares),
	ENTRY(a_clone_outlives_its_original),
	ENTRY(fclones_share_in_either_order),
	ENTRY(writing_to_what_is_shared_copies),
	ENTRY(writing_by_the_original_leaves_the_clone_alone),
	ENTRY(adding_to_a_clone_does_not_add_to_its_original),
	ENTRY(deleting_clears_the_bit_and_nothing_else),
	ENTRY(deleting_on_a_clone_needs_no_memory),
	ENTRY(deleting_the_last_one_gives_the_memory_back),
	ENTRY(deleting_what_is_not_there_does_nothing),
	ENTRY(adding_without_memory_leaves_nothing),
	ENTRY(writing_to_what_is_shared_without_memory_changes_nothing),
	ENTRY(deleting_allocates_nothing),
	ENTRY(adding_again_after_a_shared_delete_starts_anew),
	ENTRY(the_pointer_is_not_read_without_a_bit),
	ENTRY(skb_copy_keeps_them),
	ENTRY(pskb_copy_keeps_them),
	ENTRY(skb_copy_expand_keeps_them),
	ENTRY(expanding_the_head_keeps_them),
	ENTRY(unsharing_keeps_them),
	ENTRY(morphing_drops_the_own_and_shares_the_other),
	ENTRY(copying_drops_the_own_and_shares_the_other),
	ENTRY(copying_nothing_leaves_nothing),
	ENTRY(resetting_drops_all),
	ENTRY(scrubbing_drops_the_bridge_data),
	ENTRY(every_segment_has_a_reference),
	ENTRY(fragments_of_ipv4_have_a_reference),
	ENTRY(fragments_of_ipv6_have_a_reference),
	ENTRY(a_stolen_head_gives_them_back),
	ENTRY(napi_gives_them_back),
	ENTRY(gro_takes_them_from_a_buffer_that_it_uses_again),
	ENTRY(memory_is_freed_with_its_last_buffer),
	ENTRY(the_last_reference_is_read_and_not_counted_down),
	ENTRY(the_header_is_cleared_and_the_payload_is_not),
	ENTRY(a_secpath_deleted_on_a_clone_stays_with_the_original),
	ENTRY(references_are_right_with_many_at_once),
	{}
};
