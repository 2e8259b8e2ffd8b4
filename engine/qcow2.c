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
#define SUBCLUSTERS 32
#define BATCH 1024 /* entries that are read at a time */

struct qcow2 {
	struct qcow2_header *header;
	char *name;
	int fd;
	uint64_t cluster; /* bytes */
	uint64_t l1_offset;   /* where the table was seen last; atomic */
	bool extended;
	bool data_elsewhere;  /* in an external data file */
	unsigned entry_words; /* of 64 bits, of an L2 entry */
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
	q->entry_words = q->extended ? 2 : 1;
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

static bool goes_on(const struct qcow2_run *last, const struct qcow2_run *next)
{
	if (!last->length || last->kind != next->kind || last->kind == QCOW2_COMPRESSED)
		return false;
	return last->kind != QCOW2_DATA || last->host + last->length == next->host;
}

static void add(struct walk *w, struct qcow2_run run)
{
	if (goes_on(&w->last, &run)) {
		w->last.length += run.length;
		return;
	}
	tell(w);
	w->last = run;
}

static void add_damage(struct walk *w, uint64_t from, uint64_t to, const char *what)
{
	add(w, (struct qcow2_run){ from, to - from, QCOW2_DAMAGED, 0, what });
}

static void add_data(struct walk *w, uint64_t from, uint64_t to, uint64_t entry)
{
	uint64_t within = from & (w->q->cluster - 1);

	add(w, (struct qcow2_run){ from, to - from, QCOW2_DATA, (entry & OFFSET_MASK) + within });
}

/* One cluster, or [from, to) of it, with sub-clusters: the low half of the bitmap
 * says which are allocated, the high half which read as zeroes. */
static void add_subclusters(struct walk *w, uint64_t from, uint64_t to, uint64_t entry,
			    uint64_t bitmap, bool allocated)
{
	uint64_t size = w->q->cluster / SUBCLUSTERS;
	uint32_t data = (uint32_t)bitmap, zero = bitmap >> 32;

	if (!allocated && data) {
		add_damage(w, from, to, "sub-clusters of a cluster that is not there");
		return;
	}
	/* Most clusters are all of one kind. */
	if (bitmap == 0) {
		add(w, (struct qcow2_run){ from, to - from, QCOW2_UNALLOCATED });
		return;
	}
	if (data == UINT32_MAX && zero == 0) {
		add_data(w, from, to, entry);
		return;
	}
	while (from < to) {
		unsigned i = (from & (w->q->cluster - 1)) / size;
		uint64_t end = (from & ~(size - 1)) + size;
		uint32_t bit = UINT32_C(1) << i;

		if (end > to)
			end = to;
		if (data & zero & bit)
			add_damage(w, from, end, "a sub-cluster that is both data and zero");
		else if (zero & bit)
			add(w, (struct qcow2_run){ from, end - from, QCOW2_ZERO });
		else if (data & bit)
			add_data(w, from, end, entry);
		else
			add(w, (struct qcow2_run){ from, end - from, QCOW2_UNALLOCATED });
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
		add(w, (struct qcow2_run){ from, to - from, QCOW2_COMPRESSED, entry });
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
		add(w, (struct qcow2_run){ from, to - from, QCOW2_ZERO });
	else if (allocated)
		add_data(w, from, to, entry);
	else
		add(w, (struct qcow2_run){ from, to - from, QCOW2_UNALLOCATED });
}

/* How many entries from number `i` on say nothing: in an overlay, most do. */
static uint64_t count_empty(const struct qcow2 *q, const uint64_t *words, uint64_t i, uint64_t n)
{
	size_t width = q->entry_words;
	uint64_t first = i;

	while (i < n && (words[i * width] | words[i * width + width - 1]) == 0)
		i++;
	return i - first;
}

/* [from, to) lies within what one L2 table at `table` says. */
static void map_table(struct walk *w, uint64_t table, uint64_t from, uint64_t to)
{
	const struct qcow2 *q = w->q;
	uint64_t words[BATCH * 2];

	if (table % q->cluster) {
		add_damage(w, from, to, "an L2 table that is not on a cluster");
		return;
	}
	while (from < to) {
		uint64_t first = from >> q->header->cluster_bits, mask = (1ULL << q->l2_bits) - 1;
		uint64_t n = ((to - 1) >> q->header->cluster_bits) - first + 1;
		size_t width = q->entry_words;

		if (n > BATCH)
			n = BATCH;
		if (!read_table(q, table + (first & mask) * width * 8, words, n * width)) {
			add_damage(w, from, to, "an L2 table that is cut off");
			return;
		}
		for (uint64_t i = 0; i < n && from < to;) {
			uint64_t empty = count_empty(q, words, i, n), many = empty ?: 1;
			uint64_t end = (first + i + many) << q->header->cluster_bits;

			if (end > to)
				end = to;
			if (empty)
				add(w, (struct qcow2_run){ from, end - from, QCOW2_UNALLOCATED });
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
		if (!read_l1(q, first, l1, n)) {
			add_damage(&w, from, to, "an L1 table that is cut off");
			break;
		}
		for (uint64_t i = 0; i < n; i++) {
			uint64_t end = (first + i + 1) << table_bits;

			if (end > to)
				end = to;
			if (l1[i] & OFFSET_MASK)
				map_table(&w, l1[i] & OFFSET_MASK, from, end);
			else
				add(&w, (struct qcow2_run){ from, end - from, QCOW2_UNALLOCATED });
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
