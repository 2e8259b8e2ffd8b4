/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The map of one qcow2 file: from an offset in the image to one in the file.
 *
 * Nothing of the tables is kept here: of L1 and L2 only the entries of the range
 * that was asked for are read, with pread, and whoever asks keeps the answer
 * (slices.c). So memory does not grow with the image, a table that another
 * process cuts off is an error and no SIGBUS, and no entry can be out of date.
 *
 * Below a layer that shadows it, QEMU may write clusters into this file while
 * we read (docs/THREADS.md). What such a commit changes in these tables are the
 * entries of clusters that the layer above holds; of the others, what was read
 * once stays good. L2 tables stay where they are. The L1 table is moved if the
 * file has to become larger, and its old place is used for something else as soon
 * as the header names the new one: so what was read of it counts only if the
 * header still names that place afterwards.
 */
#include "engine/qcow2.h"

#include "common/mem.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OFFSET_MASK 0x00fffffffffffe00ULL
#define L2_COPIED (1ULL << 63)
#define L2_COMPRESSED (1ULL << 62)
#define L2_ZERO (1ULL << 0)
#define SUBCLUSTER_BITS 5
#define SUBCLUSTERS (1u << SUBCLUSTER_BITS)
#define BATCH 1024 /* entries that are read at a time */

struct qcow2 {
	struct qcow2_header *header;
	char *name;
	int fd;
	uint64_t cluster; /* bytes */
	uint64_t l1_offset;   /* where the table was seen last; atomic */
	bool extended;
	bool data_elsewhere;  /* in an external data file */
	unsigned entry_bits;  /* log2 of the words of 64 bits of an L2 entry */
	unsigned l2_bits;     /* log2 of the entries of a table */
};

/* ---- open ---- */

int qcow2_open(int fd, const char *name, struct qcow2 **ret, struct err *err)
{
	struct qcow2 *q = xnew(struct qcow2);
	int r;

	q->fd = fd;
	q->name = xstrdup(name);
	r = qcow2_header_read(fd, name, &q->header, err);
	if (r >= 0)
		r = qcow2_header_judge(q->header, name, err);
	if (r < 0) {
		qcow2_close(q);
		return r;
	}
	q->cluster = 1ULL << q->header->cluster_bits;
	q->l1_offset = q->header->l1_offset;
	q->extended = q->header->incompatible & QCOW2_EXTENDED_L2;
	q->data_elsewhere = q->header->incompatible & QCOW2_DATA_FILE;
	q->entry_bits = q->extended ? 1 : 0;
	q->l2_bits = q->header->cluster_bits - (q->extended ? 4 : 3);
	*ret = q;
	return 0;
}

void qcow2_close(struct qcow2 *q)
{
	if (!q)
		return;
	qcow2_header_free(q->header);
	close(q->fd);
	free(q->name);
	free(q);
}

const struct qcow2_header *qcow2_header(const struct qcow2 *q)
{
	return q->header;
}

int qcow2_fd(const struct qcow2 *q)
{
	return q->fd;
}

uint64_t qcow2_cluster_size(const struct qcow2 *q)
{
	return q->cluster;
}

/* ---- tables ---- */

/* Reads words of a table, big-endian as they are; false if they are not there. */
static bool read_table(const struct qcow2 *q, uint64_t at, uint64_t *words, size_t n)
{
	size_t size = n * sizeof(*words);

	for (size_t done = 0; done < size;) {
		ssize_t got = pread(q->fd, (char *)words + done, size - done, at + done);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		done += got;
	}
	return true;
}

static bool read_words(const struct qcow2 *q, uint64_t at, uint64_t *words, size_t n)
{
	if (!read_table(q, at, words, n))
		return false;
	for (size_t i = 0; i < n; i++)
		words[i] = be64toh(words[i]);
	return true;
}

#define L1_OFFSET_AT 40 /* in the header */

/* Reads entries of the L1 table, wherever it is by now. */
static bool read_l1(const struct qcow2 *q, uint64_t first, uint64_t *entries, size_t n)
{
	uint64_t *seen = (uint64_t *)&q->l1_offset;

	for (;;) {
		uint64_t at = __atomic_load_n(seen, __ATOMIC_RELAXED), now;
		bool there = first + n <= q->header->l1_entries &&
			     read_words(q, at + first * 8, entries, n);

		if (!read_words(q, L1_OFFSET_AT, &now, 1))
			return false;
		if (now == at)
			return there;
		__atomic_store_n(seen, now, __ATOMIC_RELAXED);
	}
}

/* ---- the map ---- */

/* Joins what is alike before it is told. */
struct walk {
	const struct qcow2 *q;
	qcow2_run_fn *fn;
	void *opaque;
	struct qcow2_run last;
};

static void tell(struct walk *w)
{
	if (w->last.length)
		w->fn(w->opaque, &w->last);
	w->last.length = 0;
}

static bool goes_on(const struct qcow2_run *last, enum qcow2_kind kind, uint64_t host)
{
	if (!last->length || last->kind != kind || kind == QCOW2_COMPRESSED)
		return false;
	return kind != QCOW2_DATA || last->host + last->length == host;
}

/* Not told in a struct: this is done for each cluster of each layer. */
static void add(struct walk *w, uint64_t from, uint64_t to, enum qcow2_kind kind, uint64_t host)
{
	struct qcow2_run *last = &w->last;

	if (goes_on(last, kind, host)) {
		last->length += to - from;
		return;
	}
	tell(w);
	last->start = from;
	last->length = to - from;
	last->kind = kind;
	last->host = host;
	last->damage = NULL;
}

static void add_damage(struct walk *w, uint64_t from, uint64_t to, const char *what)
{
	add(w, from, to, QCOW2_DAMAGED, 0);
	w->last.damage = w->last.damage ?: what;
}

static void add_data(struct walk *w, uint64_t from, uint64_t to, uint64_t entry)
{
	uint64_t within = from & (w->q->cluster - 1);

	add(w, from, to, QCOW2_DATA, (entry & OFFSET_MASK) + within);
}

/* How many sub-clusters from number `i` on are of the same kind as that one. */
static unsigned count_alike(uint32_t data, uint32_t zero, unsigned i)
{
	uint32_t d = data >> i, z = zero >> i, differ = (d & 1 ? ~d : d) | (z & 1 ? ~z : z);
	unsigned n = differ ? (unsigned)__builtin_ctz(differ) : SUBCLUSTERS;

	return n < SUBCLUSTERS - i ? n : SUBCLUSTERS - i;
}

/* One cluster, or [from, to) of it, with sub-clusters: the low half of the bitmap
 * says which are allocated, the high half which read as zeroes. */
static void add_subclusters(struct walk *w, uint64_t from, uint64_t to, uint64_t entry,
			    uint64_t bitmap, bool allocated)
{
	unsigned bits = w->q->header->cluster_bits - SUBCLUSTER_BITS;
	uint64_t cluster = from & ~(w->q->cluster - 1);
	uint32_t data = (uint32_t)bitmap, zero = bitmap >> 32;

	if (!allocated && data) {
		add_damage(w, from, to, "sub-clusters of a cluster that is not there");
		return;
	}
	while (from < to) {
		unsigned i = (from - cluster) >> bits, n = count_alike(data, zero, i);
		uint64_t end = cluster + ((uint64_t)(i + n) << bits);
		uint32_t bit = UINT32_C(1) << i;

		if (end > to)
			end = to;
		if (data & zero & bit)
			add_damage(w, from, end, "a sub-cluster that is both data and zero");
		else if (zero & bit)
			add(w, from, end, QCOW2_ZERO, 0);
		else if (data & bit)
			add_data(w, from, end, entry);
		else
			add(w, from, end, QCOW2_UNALLOCATED, 0);
		from = end;
	}
}

static void add_compressed(struct walk *w, uint64_t from, uint64_t to, uint64_t entry,
			   uint64_t bitmap)
{
	if (w->q->data_elsewhere)
		add_damage(w, from, to, "a compressed cluster beside an external data file");
	else if (bitmap)
		add_damage(w, from, to, "a compressed cluster with sub-clusters");
	else
		add(w, from, to, QCOW2_COMPRESSED, entry);
}

/* The one place where an entry is understood: of one cluster, or [from, to) of it. */
static void add_cluster(struct walk *w, uint64_t from, uint64_t to, uint64_t entry, uint64_t bitmap)
{
	const struct qcow2 *q = w->q;
	uint64_t host = entry & OFFSET_MASK;
	/* In an external data file a cluster may lie at 0. */
	bool allocated = host || (q->data_elsewhere && (entry & L2_COPIED));

	if (entry & L2_COMPRESSED)
		add_compressed(w, from, to, entry, bitmap);
	else if (host % q->cluster)
		add_damage(w, from, to, "a data cluster that is not on a cluster");
	else if (q->extended)
		add_subclusters(w, from, to, entry, bitmap, allocated);
	else if ((entry & L2_ZERO) && q->header->version < 3)
		add_damage(w, from, to, "a zero cluster in version 2");
	else if (entry & L2_ZERO)
		add(w, from, to, QCOW2_ZERO, 0);
	else if (allocated)
		add_data(w, from, to, entry);
	else
		add(w, from, to, QCOW2_UNALLOCATED, 0);
}

static bool are_zero(const uint64_t *w)
{
	return (w[0] | w[1] | w[2] | w[3] | w[4] | w[5] | w[6] | w[7]) == 0;
}

/* How many entries from number `first` on say nothing: in an overlay, most do. */
static uint64_t count_empty(const struct qcow2 *q, const uint64_t *words, uint64_t first, uint64_t n)
{
	size_t at = first << q->entry_bits, end = n << q->entry_bits;

	while (at + 8 <= end && are_zero(words + at))
		at += 8;
	while (at < end && words[at] == 0)
		at++;
	return (at >> q->entry_bits) - first;
}

/* Where number `i` of pieces of 2^bits bytes ends; `to`, if that comes before. */
static uint64_t end_of(uint64_t i, unsigned bits, uint64_t to)
{
	uint64_t end = (i + 1) << bits;

	return end < to ? end : to;
}

/* [from, to) lies within what one L2 table at `table` says. */
static void map_table(struct walk *w, uint64_t table, uint64_t from, uint64_t to)
{
	const struct qcow2 *q = w->q;
	unsigned bits = q->header->cluster_bits;
	uint64_t words[BATCH * 2];

	if (table % q->cluster) {
		add_damage(w, from, to, "an L2 table that is not on a cluster");
		return;
	}
	while (from < to) {
		uint64_t first = from >> bits, mask = (1ULL << q->l2_bits) - 1;
		uint64_t n = ((to - 1) >> bits) - first + 1;
		size_t width = 1u << q->entry_bits;
		uint64_t at = table + (first & mask) * width * 8;

		if (n > BATCH)
			n = BATCH;
		/* What is damaged is told of each entry, however many were asked for. */
		if (!read_table(q, at, words, n * width) && !read_table(q, at, words, width * (n = 1))) {
			uint64_t end = end_of(first, bits, to);

			add_damage(w, from, end, "an L2 table that is cut off");
			from = end;
			continue;
		}
		for (uint64_t i = 0; i < n && from < to;) {
			uint64_t empty = count_empty(q, words, i, n), many = empty ?: 1;
			uint64_t end = end_of(first + i + many - 1, bits, to);

			if (empty)
				add(w, from, end, QCOW2_UNALLOCATED, 0);
			else
				add_cluster(w, from, end, be64toh(words[i * width]),
					    q->extended ? be64toh(words[i * width + 1]) : 0);
			i += many;
			from = end;
		}
	}
}

void qcow2_map(const struct qcow2 *q, uint64_t offset, uint64_t length, qcow2_run_fn *fn,
	       void *opaque)
{
	struct walk w = { .q = q, .fn = fn, .opaque = opaque };
	unsigned table_bits = q->l2_bits + q->header->cluster_bits;
	uint64_t from = offset, to = offset + length, l1[BATCH];

	while (from < to) {
		uint64_t first = from >> table_bits, n = ((to - 1) >> table_bits) - first + 1;

		if (n > BATCH)
			n = BATCH;
		if (!read_l1(q, first, l1, n) && !read_l1(q, first, l1, n = 1)) {
			uint64_t end = end_of(first, table_bits, to);

			add_damage(&w, from, end, "an L1 table that is cut off");
			from = end;
			continue;
		}
		for (uint64_t i = 0; i < n; i++) {
			uint64_t end = end_of(first + i, table_bits, to);

			if (l1[i] & OFFSET_MASK)
				map_table(&w, l1[i] & OFFSET_MASK, from, end);
			else
				add(&w, from, end, QCOW2_UNALLOCATED, 0);
			from = end;
		}
	}
	tell(&w);
}

uint64_t qcow2_empty_length(const struct qcow2 *q, uint64_t offset, uint64_t limit)
{
	unsigned table_bits = q->l2_bits + q->header->cluster_bits;
	uint64_t first = offset >> table_bits, at = first, l1[BATCH];

	while (at < q->header->l1_entries && (at == first || (at << table_bits) - offset < limit)) {
		uint64_t n = q->header->l1_entries - at;

		if (n > BATCH)
			n = BATCH;
		if (!read_l1(q, at, l1, n))
			break;
		for (uint64_t i = 0; i < n; i++, at++)
			if (l1[i] & OFFSET_MASK)
				return at == first ? 0 : (at << table_bits) - offset;
	}
	return at == first ? 0 : (at << table_bits) - offset;
}
