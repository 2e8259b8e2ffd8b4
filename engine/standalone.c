/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/standalone.h"

#include "common/cleanup.h"
#include "common/mem.h"
#include "common/vec.h"

#include <endian.h>
#include <string.h>

/* 64 KiB is what QEMU likes best; below 4 KiB nothing is gained. */
#define CLUSTER_BITS_MAX 16
#define CLUSTER_BITS_MIN 12
#define REFCOUNT_ORDER 4
#define COPIED (1ULL << 63)               /* "its refcount is 1" */
#define HEADER_LENGTH 104
#define EXT_BACKING_FORMAT 0xe2792acau
#define BACKING_AT (HEADER_LENGTH + 8 + 8 + 8) /* behind that extension and the end of them */
#define ZERO_CLUSTER 1

/* Part of the file, in clusters. */
struct part {
	uint64_t first, n;
};

/* A run in clusters of the file. */
struct cluster_run {
	uint64_t first, n;
	bool zero;
};

struct standalone {
	struct image *image;
	uint64_t image_size;
	char *backing;
	unsigned cluster_bits;
	uint64_t cluster; /* bytes; and what a cluster of tables has room for: */
	uint64_t entries; /* 64-bit entries of a table */
	uint64_t refcounts; /* 16-bit ones of a block */
	vec_of(struct cluster_run) runs;
	uint64_t *ranks; /* of each run: data clusters before it */
	uint64_t *tables; /* indexes in L1 that have an L2 table, in order */
	uint64_t l1_entries;
	struct part refcount_table, refcount_blocks, l1, l2, data;
};

static uint64_t div_up(uint64_t a, uint64_t b)
{
	return (a + b - 1) / b;
}

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* ---- what is in it ---- */

typedef vec_of(struct data_run) runs_t;

static void add_extent(runs_t *runs, const struct extent *x, size_t n_layers)
{
	struct data_run *last = runs->n ? &runs->at[runs->n - 1] : NULL;
	bool zero = x->kind == EXTENT_ZERO;

	if (x->kind == EXTENT_HOLE || x->layer >= n_layers)
		return;
	if (zero && n_layers == ALL_LAYERS)
		return; /* nothing lies under it that is not zero */
	if (last && last->zero == zero && last->start + last->length == x->start)
		last->length += x->length;
	else
		vec_push(runs, ((struct data_run){ x->start, x->length, zero }));
}

int standalone_scan(struct image *image, size_t n_layers, struct data_run **ret, size_t *ret_n,
		    struct err *err)
{
	runs_t runs = { 0 };
	uint64_t offset = 0;

	while (offset < image_size(image)) {
		struct extent extents[64];
		size_t n;
		int r = image_extents(image, offset, image_size(image) - offset, extents, 64, &n, err);

		if (r < 0) {
			vec_free(&runs);
			return r;
		}
		for (size_t i = 0; i < n; i++) {
			add_extent(&runs, &extents[i], n_layers);
			offset += extents[i].length;
		}
	}
	*ret = runs.at;
	*ret_n = runs.n;
	return 0;
}

/* ---- in clusters ---- */

/* Clusters [first, end), of which the first may be in the last run already. */
static void add_clusters(struct standalone *s, uint64_t first, uint64_t end, bool zero)
{
	struct cluster_run *last = s->runs.n ? &s->runs.at[s->runs.n - 1] : NULL;

	if (last && first < last->first + last->n)
		first = last->first + last->n;
	if (first >= end)
		return;
	if (last && last->zero == zero && last->first + last->n == first)
		last->n += end - first;
	else
		vec_push(&s->runs, ((struct cluster_run){ first, end - first, zero }));
}

static void add_data(struct standalone *s, uint64_t start, uint64_t end)
{
	add_clusters(s, start >> s->cluster_bits, div_up(end, s->cluster), false);
}

/* A cluster that is zero in part only is data. */
static void add_zero(struct standalone *s, uint64_t start, uint64_t end)
{
	uint64_t first = div_up(start, s->cluster);
	uint64_t last = end == s->image_size ? div_up(end, s->cluster) : end >> s->cluster_bits;

	if (first > start >> s->cluster_bits)
		add_data(s, start, min(end, first << s->cluster_bits));
	add_clusters(s, first, last, true);
	if (first <= last && last << s->cluster_bits < end)
		add_data(s, last << s->cluster_bits, end);
}

/* ---- where everything lies ---- */

static uint64_t rank_runs(struct standalone *s)
{
	uint64_t rank = 0;

	s->ranks = xcalloc(s->runs.n + 1, sizeof(*s->ranks));
	for (size_t i = 0; i < s->runs.n; i++) {
		s->ranks[i] = rank;
		rank += s->runs.at[i].zero ? 0 : s->runs.at[i].n;
	}
	return rank;
}

static uint64_t find_tables(struct standalone *s)
{
	vec_of(uint64_t) tables = { 0 };

	for (size_t i = 0; i < s->runs.n; i++) {
		const struct cluster_run *run = &s->runs.at[i];
		uint64_t last = (run->first + run->n - 1) / s->entries;

		for (uint64_t t = run->first / s->entries; t <= last; t++)
			if (!tables.n || tables.at[tables.n - 1] != t)
				vec_push(&tables, t);
	}
	s->tables = tables.at;
	return tables.n;
}

/* The refcounts count themselves: so it is gone round until it fits. */
static void lay_out(struct standalone *s, uint64_t n_data, uint64_t n_tables)
{
	uint64_t l1 = div_up(s->l1_entries, s->entries), rest = 1 + l1 + n_tables + n_data;
	uint64_t blocks = 0, table = 0;

	for (;;) {
		uint64_t b = div_up(rest + blocks + table, s->refcounts), t = div_up(b, s->entries);

		if (b == blocks && t == table)
			break;
		blocks = b;
		table = t;
	}
	s->refcount_table = (struct part){ 1, table };
	s->refcount_blocks = (struct part){ 1 + table, blocks };
	s->l1 = (struct part){ 1 + table + blocks, l1 };
	s->l2 = (struct part){ s->l1.first + l1, n_tables };
	s->data = (struct part){ s->l2.first + n_tables, n_data };
}

static struct standalone *make(const struct data_run *runs, size_t n, uint64_t image_size,
			       unsigned cluster_bits)
{
	struct standalone *s = xnew(struct standalone);
	uint64_t clusters;

	s->image_size = image_size;
	s->cluster_bits = cluster_bits;
	s->cluster = 1ULL << cluster_bits;
	s->entries = s->cluster / 8;
	s->refcounts = s->cluster / 2;
	for (size_t i = 0; i < n; i++) {
		if (runs[i].zero)
			add_zero(s, runs[i].start, runs[i].start + runs[i].length);
		else
			add_data(s, runs[i].start, runs[i].start + runs[i].length);
	}
	clusters = div_up(image_size, s->cluster);
	s->l1_entries = clusters ? div_up(clusters, s->entries) : 1;
	lay_out(s, rank_runs(s), find_tables(s));
	return s;
}

#define L1_ENTRIES_MAX (32u << 20 >> 3) /* as QEMU has it */

unsigned standalone_choose_clusters(const struct data_run *runs, size_t n, uint64_t image_size)
{
	uint64_t sizes[CLUSTER_BITS_MAX + 1], smallest = UINT64_MAX;
	unsigned bits;

	for (bits = CLUSTER_BITS_MIN; bits <= CLUSTER_BITS_MAX; bits++) {
		struct standalone *s = make(runs, n, image_size, bits);

		sizes[bits] = s->l1_entries <= L1_ENTRIES_MAX ? standalone_size(s) : UINT64_MAX;
		smallest = min(smallest, sizes[bits]);
		standalone_free(s);
	}
	bits = CLUSTER_BITS_MAX;
	if (smallest == UINT64_MAX) { /* a disk of more than 2 PiB */
		while (div_up(image_size, 1ULL << (2 * bits - 3)) > L1_ENTRIES_MAX)
			bits++;
		return bits;
	}
	while (bits > CLUSTER_BITS_MIN && sizes[bits] > smallest + smallest / 8)
		bits--;
	return bits;
}

struct standalone *standalone_new(struct image *image, const struct data_run *runs, size_t n,
				  unsigned cluster_bits, const char *backing)
{
	struct standalone *s = make(runs, n, image_size(image), cluster_bits);

	s->image = image;
	s->backing = xstrdup(backing);
	return s;
}

void standalone_free(struct standalone *s)
{
	if (!s)
		return;
	free(s->backing);
	vec_free(&s->runs);
	free(s->ranks);
	free(s->tables);
	free(s);
}

uint64_t standalone_size(const struct standalone *s)
{
	return (s->data.first + s->data.n) << s->cluster_bits;
}

/* ---- one cluster of the tables ---- */

static void put32(char *buf, size_t at, uint32_t v)
{
	v = htobe32(v);
	memcpy(buf + at, &v, sizeof(v));
}

static void put64(char *buf, size_t at, uint64_t v)
{
	v = htobe64(v);
	memcpy(buf + at, &v, sizeof(v));
}

/* The specification's table of the header; what is not named here is 0. */
static void fill_header(const struct standalone *s, char *buf)
{
	memcpy(buf, "QFI\xfb", 4);
	put32(buf, 4, 3); /* version */
	put32(buf, 20, s->cluster_bits);
	put64(buf, 24, s->image_size);
	put32(buf, 36, s->l1_entries);
	put64(buf, 40, s->l1.first << s->cluster_bits);
	put64(buf, 48, s->refcount_table.first << s->cluster_bits);
	put32(buf, 56, s->refcount_table.n);
	put32(buf, 96, REFCOUNT_ORDER);
	put32(buf, 100, HEADER_LENGTH);
	if (s->backing[0]) {
		put64(buf, 8, BACKING_AT);
		put32(buf, 16, strlen(s->backing));
		put32(buf, HEADER_LENGTH, EXT_BACKING_FORMAT);
		put32(buf, HEADER_LENGTH + 4, strlen("qcow2"));
		memcpy(buf + HEADER_LENGTH + 8, "qcow2", strlen("qcow2"));
		memcpy(buf + BACKING_AT, s->backing, strlen(s->backing));
	}
}

static void fill_refcount_table(const struct standalone *s, uint64_t index, char *buf)
{
	for (uint64_t i = 0; i < s->entries && index * s->entries + i < s->refcount_blocks.n; i++)
		put64(buf, i * 8,
		      (s->refcount_blocks.first + index * s->entries + i) << s->cluster_bits);
}

/* Every cluster of the file is used once. */
static void fill_refcount_block(const struct standalone *s, uint64_t index, char *buf)
{
	uint64_t total = s->data.first + s->data.n;

	for (uint64_t i = 0; i < s->refcounts && index * s->refcounts + i < total; i++)
		buf[i * 2 + 1] = 1;
}

/* The number of the first of n ordered values that is at least `wanted`. */
static size_t lower_bound(const uint64_t *values, size_t n, uint64_t wanted)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (values[middle] < wanted)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void fill_l1(const struct standalone *s, uint64_t index, char *buf)
{
	for (size_t i = lower_bound(s->tables, s->l2.n, index * s->entries);
	     i < s->l2.n && s->tables[i] < (index + 1) * s->entries; i++)
		put64(buf, (s->tables[i] - index * s->entries) * 8,
		      (s->l2.first + i) << s->cluster_bits | COPIED);
}

/* The first run that ends behind `cluster`. */
static size_t run_from(const struct standalone *s, uint64_t cluster)
{
	size_t low = 0, high = s->runs.n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (s->runs.at[middle].first + s->runs.at[middle].n <= cluster)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void fill_l2(const struct standalone *s, uint64_t index, char *buf)
{
	uint64_t begin = s->tables[index] * s->entries, end = begin + s->entries;

	for (size_t i = run_from(s, begin); i < s->runs.n && s->runs.at[i].first < end; i++) {
		const struct cluster_run *run = &s->runs.at[i];
		uint64_t from = run->first > begin ? run->first : begin;
		uint64_t to = min(run->first + run->n, end);

		for (uint64_t c = from; c < to; c++)
			put64(buf, (c - begin) * 8,
			      run->zero ? ZERO_CLUSTER :
					  (s->data.first + s->ranks[i] + (c - run->first))
							  << s->cluster_bits | COPIED);
	}
}

static bool lies_in(const struct part *part, uint64_t cluster, uint64_t *ret_index)
{
	*ret_index = cluster - part->first;
	return cluster >= part->first && *ret_index < part->n;
}

static void fill_tables(const struct standalone *s, uint64_t cluster, char *buf)
{
	uint64_t index;

	memset(buf, 0, s->cluster);
	if (cluster == 0)
		fill_header(s, buf);
	else if (lies_in(&s->refcount_table, cluster, &index))
		fill_refcount_table(s, index, buf);
	else if (lies_in(&s->refcount_blocks, cluster, &index))
		fill_refcount_block(s, index, buf);
	else if (lies_in(&s->l1, cluster, &index))
		fill_l1(s, index, buf);
	else if (lies_in(&s->l2, cluster, &index))
		fill_l2(s, index, buf);
}

/* ---- reading ---- */

static size_t read_tables(const struct standalone *s, struct gather *g, size_t length,
			  uint64_t offset)
{
	cleanup_free char *cluster = xcalloc(1, s->cluster);
	uint64_t within = offset & (s->cluster - 1);

	length = min(length, s->cluster - within);
	fill_tables(s, offset >> s->cluster_bits, cluster);
	memcpy(gather_room(g, length), cluster + within, length);
	return length;
}

/* As far as the clusters of one run go. Past the end of the disk it is zero. */
static ssize_t read_clusters(struct standalone *s, struct gather *g, size_t length,
			     uint64_t offset, struct err *err)
{
	uint64_t rank = (offset >> s->cluster_bits) - s->data.first;
	size_t i = lower_bound(s->ranks, s->runs.n, rank + 1) - 1;
	uint64_t cluster = s->runs.at[i].first + (rank - s->ranks[i]);
	uint64_t at = (cluster << s->cluster_bits) + (offset & (s->cluster - 1));
	uint64_t end = (s->runs.at[i].first + s->runs.at[i].n) << s->cluster_bits;
	ssize_t n;

	length = min(length, end - at);
	n = image_gather(s->image, g, length, at, err);
	if (n < 0)
		return n;
	if ((size_t)n < length)
		memset(gather_room(g, length - n), 0, length - n);
	return length;
}

ssize_t standalone_gather(struct standalone *s, struct gather *g, size_t length, uint64_t offset,
			  struct err *err)
{
	size_t done = 0;

	if (offset >= standalone_size(s))
		return 0;
	length = min(length, standalone_size(s) - offset);
	while (done < length) {
		uint64_t at = offset + done;
		ssize_t n;

		if (at >> s->cluster_bits < s->data.first)
			n = read_tables(s, g, length - done, at);
		else
			n = read_clusters(s, g, length - done, at, err);
		if (n < 0)
			return n;
		done += n;
	}
	return done;
}
