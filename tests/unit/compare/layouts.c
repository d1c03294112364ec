/* SPDX-License-Identifier: GPL-2.0-only */
/* Structures with everything that a layout can have; test_compare_layout.py and tests/build/test_layout.py look at them. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
struct list { struct list *next, *prev; };
typedef struct { int counter; } atomic;
enum color { RED, GREEN };

struct holes { u8 a; u32 b; u8 c; u64 d; u8 e; };
struct bits { u32 a:3; u32 b:5; u32 :4; u32 c:12; u8 d; u64 e:40; u64 f:30; u8 g:1; };
struct cross { u32 a:30; u32 b:4; u16 c; };
struct __attribute__((packed)) packed { u8 a; u32 b; u16 c:3; u64 d; u32 e:31; u32 f:9; u8 g; };
struct outer {
	union { struct { u16 x; u16 y; }; u32 whole; };
	struct { u8 flag:1; u8 rest:7; u32 value; };
	struct list link;
	atomic refs;
	u8 tail;
};
struct grouped {
	u8 before;
	union {
		struct { u8 p:3; u16 q; u32 r; };
		struct { u8 p:3; u16 q; u32 r; } group;
	};
	u8 after;
};
union either { u8 byte; u64 word; };
struct arrays { char name[16]; u32 grid[2][3]; struct { u8 k; u16 v; } pairs[3]; u8 zero[0]; union either u; u8 flex[]; };
struct flexible { u16 count; struct list entries[]; };
struct aligned { u8 a; u32 hot __attribute__((aligned(64))); u8 b; };
struct __attribute__((aligned(32))) wide { u8 a; };
struct pointers {
	void *nothing; const char *text; void (*call)(struct pointers *, int, ...); int (*table[4])(void);
	char (*rows)[8]; volatile u32 *reg; enum color color; _Bool yes; struct later *unknown; const struct list *const end;
};
struct empty { };
struct holds_empty { u8 a; struct empty nothing; u32 b; };
struct only_declared;

#define PROBE(name) struct name *probe_##name
PROBE(holes); PROBE(bits); PROBE(cross); PROBE(packed); PROBE(outer); PROBE(grouped); PROBE(arrays); PROBE(flexible);
PROBE(aligned); PROBE(wide); PROBE(pointers); PROBE(holds_empty); PROBE(only_declared);
