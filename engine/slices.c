/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/slices.h"

#include "common/cleanup.h"
#include "common/mem.h"
#include "common/vec.h"

#include <pthread.h>
#include <stddef.h>
#include <string.h>

#define MOST_BYTES (64u << 20)
#define BUCKETS 65536

struct entry {
	const struct flat *flat;
	uint64_t number; /* of the slice */
	size_t bytes;
	int refs;
	struct entry *next;            /* in the bucket */
	struct entry *newer, *older;   /* by use */
	struct slice slice;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct entry *buckets[BUCKETS];
static struct entry *newest, *oldest;
static size_t bytes;

/* ---- the cache; the lock is held in all of this part ---- */

static struct entry **bucket_of(const struct flat *flat, uint64_t number)
{
	uint64_t hash = ((uintptr_t)flat >> 4) * 0x9e3779b97f4a7c15ULL + number;

	return &buckets[(hash ^ hash >> 29) % BUCKETS];
}

static void unlink_use(struct entry *e)
{
	*(e->newer ? &e->newer->older : &newest) = e->older;
	*(e->older ? &e->older->newer : &oldest) = e->newer;
}

static void link_newest(struct entry *e)
{
	e->newer = NULL;
	e->older = newest;
	*(newest ? &newest->newer : &oldest) = e;
	newest = e;
}

static void unref(struct entry *e)
{
	if (__atomic_sub_fetch(&e->refs, 1, __ATOMIC_ACQ_REL) == 0)
		free(e);
}

static void drop(struct entry *e)
{
	struct entry **place = bucket_of(e->flat, e->number);

	while (*place != e)
		place = &(*place)->next;
	*place = e->next;
	unlink_use(e);
	bytes -= e->bytes;
	unref(e);
}

static struct entry *find(const struct flat *flat, uint64_t number)
{
	struct entry *e = *bucket_of(flat, number);

	while (e && (e->flat != flat || e->number != number))
		e = e->next;
	return e;
}

/* Two may have made the same slice at once: the first one stays. */
static struct entry *put(struct entry *e)
{
	struct entry *there = find(e->flat, e->number), **bucket = bucket_of(e->flat, e->number);

	if (there) {
		free(e);
		return there;
	}
	e->next = *bucket;
	*bucket = e;
	link_newest(e);
	bytes += e->bytes;
	while (bytes > MOST_BYTES && oldest != e)
		drop(oldest);
	return e;
}

/* ---- making a slice ---- */

struct range {
	uint64_t start, end;
};

typedef vec_of(struct range) ranges_t;

/* Goes from layer to layer: what none has said anything of yet are the gaps. */
struct making {
	vec_of(struct piece) pieces;
	ranges_t gaps;  /* that this layer is asked about, in order */
	ranges_t left;  /* that it leaves to the next one */
	size_t at;      /* the gap that a run is looked for in */
	uint32_t layer;
};

static void leave(struct making *m, uint64_t start, uint64_t end)
{
	if (m->left.n && m->left.at[m->left.n - 1].end == start)
		m->left.at[m->left.n - 1].end = end;
	else
		vec_push(&m->left, ((struct range){ start, end }));
}

static void say(struct making *m, const struct qcow2_run *run, uint64_t start, uint64_t end)
{
	static const enum piece_kind kinds[] = {
		[QCOW2_ZERO] = PIECE_ZERO, [QCOW2_DATA] = PIECE_DATA,
		[QCOW2_COMPRESSED] = PIECE_COMPRESSED, [QCOW2_DAMAGED] = PIECE_DAMAGED,
	};
	struct piece piece = { .start = start, .length = end - start, .host = run->host,
			       .damage = run->damage, .layer = m->layer,
			       .kind = kinds[run->kind] };

	if (run->kind == QCOW2_DATA)
		piece.host += start - run->start;
	vec_push(&m->pieces, piece);
}

/* A run of the layer counts where no layer above has said anything. */
static void on_run(void *opaque, const struct qcow2_run *run)
{
	struct making *m = opaque;
	uint64_t run_end = run->start + run->length;

	while (m->at < m->gaps.n && m->gaps.at[m->at].start < run_end) {
		const struct range *gap = &m->gaps.at[m->at];
		uint64_t start = gap->start > run->start ? gap->start : run->start;
		uint64_t end = gap->end < run_end ? gap->end : run_end;

		if (start < end && run->kind == QCOW2_UNALLOCATED)
			leave(m, start, end);
		else if (start < end)
			say(m, run, start, end);
		if (gap->end > run_end)
			break;
		m->at++;
	}
}

static void add_hole(struct making *m, uint64_t start, uint64_t end)
{
	if (start < end)
		vec_push(&m->pieces, ((struct piece){ .start = start, .length = end - start,
						      .kind = PIECE_HOLE }));
}

/* A layer that is smaller than the one on top of it reads as zeroes beyond its
 * end, whatever lies under it there: its end is the end of that branch. */
static void cut_at_end(struct making *m, uint64_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < m->gaps.n; i++) {
		struct range gap = m->gaps.at[i];

		add_hole(m, gap.start > size ? gap.start : size, gap.end);
		if (gap.end > size)
			gap.end = size;
		if (gap.start < gap.end)
			m->gaps.at[n++] = gap;
	}
	m->gaps.n = n;
}

static void ask_layer(struct making *m, const struct chain_layer *layer)
{
	cut_at_end(m, layer->size);
	m->left.n = 0;
	m->at = 0;
	if (m->gaps.n) {
		uint64_t start = m->gaps.at[0].start, end = m->gaps.at[m->gaps.n - 1].end;
		ranges_t old = m->gaps;

		chain_layer_map(layer, start, end - start, on_run, m);
		m->gaps = m->left;
		m->left = old;
	}
}

static int by_start(const void *a, const void *b)
{
	const struct piece *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static bool goes_on(const struct piece *a, const struct piece *b)
{
	if (a->kind != b->kind || a->kind == PIECE_COMPRESSED)
		return false;
	if (a->kind == PIECE_HOLE)
		return true;
	return a->layer == b->layer && a->damage == b->damage &&
	       (a->kind != PIECE_DATA || a->host + a->length == b->host);
}

static void join(struct piece *pieces, size_t n)
{
	size_t last = 0;

	for (size_t i = 1; i < n; i++) {
		if (goes_on(&pieces[last], &pieces[i]))
			pieces[last].length += pieces[i].length;
		else
			pieces[++last] = pieces[i];
	}
}

/* Of pieces the first and the last of which may reach beyond it. */
static struct entry *entry_new(const struct flat *flat, uint64_t number, uint64_t end,
			       const struct piece *pieces, size_t n)
{
	uint64_t start = number << flat->slice_bits;
	size_t size = sizeof(struct entry) + n * sizeof(*pieces);
	struct entry *e = malloc(size);
	struct piece *first, *last;

	if (!e)
		return NULL;
	*e = (struct entry){ .flat = flat, .number = number, .bytes = size, .refs = 1,
			     .slice = { .start = start, .end = end, .n = n } };
	memcpy(e->slice.pieces, pieces, n * sizeof(*pieces));
	first = &e->slice.pieces[0];
	last = &e->slice.pieces[n - 1];
	if (first->kind == PIECE_DATA)
		first->host += start - first->start;
	first->length -= start - first->start;
	first->start = start;
	last->length = end - last->start;
	return e;
}

typedef vec_of(struct entry *) entries_t;

/* Cuts a part of the map into slices. One for which there is no memory is left out. */
static void cut(const struct flat *flat, uint64_t start, uint64_t end, const struct piece *pieces,
		entries_t *ret)
{
	for (size_t at = 0; start < end;) {
		uint64_t number = start >> flat->slice_bits;
		uint64_t slice_end = (number + 1) << flat->slice_bits;
		size_t first = at;
		struct entry *e;

		if (slice_end > end)
			slice_end = end;
		while (pieces[at].start + pieces[at].length < slice_end)
			at++;
		e = entry_new(flat, number, slice_end, pieces + first, at + 1 - first);
		if (e)
			vec_push(ret, e);
		if (pieces[at].start + pieces[at].length == slice_end)
			at++;
		start = slice_end;
	}
}

/* 2^step slices, the one with this number among them. */
static void make(const struct flat *flat, uint64_t number, unsigned step, entries_t *ret)
{
	unsigned bits = flat->slice_bits + step;
	uint64_t start = number >> step << bits, end = start + (1ULL << bits);
	struct making m = { .layer = 0 };

	if (end > flat->size)
		end = flat->size;
	vec_push(&m.gaps, ((struct range){ start, end }));
	for (; m.layer < flat->n_layers && m.gaps.n; m.layer++)
		ask_layer(&m, flat->layers[m.layer]);
	for (size_t i = 0; i < m.gaps.n; i++)
		add_hole(&m, m.gaps.at[i].start, m.gaps.at[i].end);
	qsort(m.pieces.at, m.pieces.n, sizeof(m.pieces.at[0]), by_start);
	join(m.pieces.at, m.pieces.n);
	cut(flat, start, end, m.pieces.at, ret);
	vec_free(&m.pieces);
	vec_free(&m.gaps);
	vec_free(&m.left);
}

/* ---- what others see ---- */

/* So many entries of tables, of the smallest clusters, are read for the first byte; and so
 * many, in the end, for each further part of the map. */
#define SLICE_CLUSTER_BITS 8
#define STEP_MAX 3
#define SLICE_BITS_MIN 20
#define SLICE_BITS_MAX 26

unsigned slices_choose_bits(const struct chain_layer *const *layers, size_t n)
{
	unsigned bits = SLICE_BITS_MAX;

	for (size_t i = 0; i < n; i++) {
		unsigned cluster = layers[i]->qcow2 ?
					   qcow2_header(layers[i]->qcow2)->cluster_bits :
					   SLICE_BITS_MAX;

		if (cluster + SLICE_CLUSTER_BITS < bits)
			bits = cluster + SLICE_CLUSTER_BITS;
	}
	return bits < SLICE_BITS_MIN ? SLICE_BITS_MIN : bits;
}

/* The lock is held. */
static const struct slice *with_reference(struct entry *e)
{
	__atomic_add_fetch(&e->refs, 1, __ATOMIC_RELAXED);
	return &e->slice;
}

const struct slice *slice_find(const struct flat *flat, uint64_t offset)
{
	struct entry *e;
	LOCK_SCOPE(&lock);

	e = find(flat, offset >> flat->slice_bits);
	if (!e)
		return NULL;
	if (e != newest) {
		unlink_use(e);
		link_newest(e);
	}
	return with_reference(e);
}

const struct slice *slice_make(struct flat *flat, uint64_t offset)
{
	unsigned step = __atomic_load_n(&flat->step, __ATOMIC_RELAXED);
	uint64_t number = offset >> flat->slice_bits;
	const struct slice *ret = NULL;
	entries_t made = { 0 };

	make(flat, number, step, &made);
	if (step < STEP_MAX)
		__atomic_store_n(&flat->step, step + 1, __ATOMIC_RELAXED);
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < made.n; i++) {
		bool wanted = made.at[i]->number == number;
		struct entry *e = put(made.at[i]);

		if (wanted)
			ret = with_reference(e);
	}
	pthread_mutex_unlock(&lock);
	vec_free(&made);
	return ret;
}

void slice_unref(const struct slice *slice)
{
	if (slice)
		unref((struct entry *)((char *)slice - offsetof(struct entry, slice)));
}

const struct piece *slice_piece(const struct slice *slice, uint64_t offset)
{
	size_t low = 0, high = slice->n;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (slice->pieces[middle].start <= offset)
			low = middle;
		else
			high = middle;
	}
	return &slice->pieces[low];
}

void slices_forget(const struct flat *flat)
{
	LOCK_SCOPE(&lock);

	for (struct entry *e = newest, *older; e; e = older) {
		older = e->older;
		if (e->flat == flat)
			drop(e);
	}
}
