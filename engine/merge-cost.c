/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The maps of both layers are walked side by side, a window at a time, so that the
 * memory used does not depend on the disk's size.
 */
#include "engine/merge-cost.h"

#include "common/cleanup.h"
#include "common/vec.h"
#include "engine/chain-layer.h"

#define WINDOW (64ULL << 20) /* bytes of the disk; a multiple of every cluster size */
#define TABLES_SHARE 1024    /* L2 tables and refcounts: 10 bytes for a cluster of 64 KiB */
#define TABLES_LEAST (1ULL << 20)

/* A part of the disk that a layer holds. */
struct held {
	uint64_t start, end;
	bool data; /* or it is known to be zero */
};

struct map {
	struct chain_layer layer;
	uint64_t cluster; /* bytes */
	vec_of(struct held) held; /* in the window */
};

static int map_open(struct map *m, const struct layer_file *file, struct err *err)
{
	int r;

	*m = (struct map){ .layer = { .fd = -1 } };
	r = chain_layer_open(&m->layer, file->path, file->format, err);
	if (r >= 0)
		m->cluster = m->layer.qcow2 ? qcow2_cluster_size(m->layer.qcow2) : 4096;
	return r;
}

static void map_close(struct map *m)
{
	chain_layer_close(&m->layer);
	vec_free(&m->held);
}

static void take_run(void *map, const struct qcow2_run *run)
{
	struct map *m = map;

	if (run->kind != QCOW2_UNALLOCATED)
		vec_push(&m->held, ((struct held){ run->start, run->start + run->length,
						   run->kind != QCOW2_ZERO }));
}

static void read_window(struct map *m, uint64_t at)
{
	uint64_t size = m->layer.size;

	m->held.n = 0;
	if (at < size)
		chain_layer_map(&m->layer, at, size - at < WINDOW ? size - at : WINDOW, take_run, m);
}

/* How far nothing is held from `at` on. */
static uint64_t empty_length(const struct map *m, uint64_t at, uint64_t end)
{
	return at >= m->layer.size ? end - at : chain_layer_empty_length(&m->layer, at, end - at);
}

/* ---- counting, in one window ---- */

static uint64_t data_of(const struct map *m)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < m->held.n; i++)
		if (m->held.at[i].data)
			sum += m->held.at[i].end - m->held.at[i].start;
	return sum;
}

/* The data of `m` where `over` holds nothing. */
static uint64_t data_under(const struct map *m, const struct map *over)
{
	uint64_t sum = data_of(m);
	size_t o = 0;

	for (size_t i = 0; i < m->held.n; i++) {
		const struct held *mine = &m->held.at[i];

		while (o < over->held.n && over->held.at[o].end <= mine->start)
			o++;
		for (size_t n = o; mine->data && n < over->held.n; n++) {
			const struct held *its = &over->held.at[n];
			uint64_t start = its->start > mine->start ? its->start : mine->start;
			uint64_t end = its->end < mine->end ? its->end : mine->end;

			if (start >= end)
				break;
			sum -= end - start;
		}
	}
	return sum;
}

static bool has_data(const struct map *m, uint64_t start, uint64_t end, size_t *hint)
{
	while (*hint < m->held.n && m->held.at[*hint].end <= start)
		++*hint;
	for (size_t i = *hint; i < m->held.n && m->held.at[i].start < end; i++)
		if (m->held.at[i].data)
			return true;
	return false;
}

/* The clusters that `into` gets if what `from` holds is written into it. */
static uint64_t new_clusters(const struct map *from, const struct map *into)
{
	uint64_t mask = into->cluster - 1, next = 0, sum = 0;
	size_t hint = 0;

	for (size_t i = 0; i < from->held.n; i++) {
		uint64_t at = from->held.at[i].start & ~mask;

		if (!from->held.at[i].data)
			continue;
		for (at = at < next ? next : at; at < from->held.at[i].end; at += into->cluster)
			if (!has_data(into, at, at + into->cluster, &hint))
				sum += into->cluster;
		next = at;
	}
	return sum;
}

static void count_window(const struct map *c, const struct map *f, struct merge_cost *ret)
{
	ret->commit.moves += data_of(c);
	ret->commit.grows += new_clusters(c, f);
	ret->pull.moves += data_under(f, c);
	ret->pull.grows += new_clusters(f, c);
}

static void add_tables(struct merge_way *way)
{
	if (way->grows)
		way->grows += way->grows / TABLES_SHARE + TABLES_LEAST;
}

int merge_cost(const struct layer_file *c_file, const struct layer_file *f_file,
	       struct merge_cost *ret, struct err *err)
{
	cleanup(map_close) struct map c, f = { .layer = { .fd = -1 } };
	struct merge_cost cost = { 0 };
	uint64_t end;
	int r = map_open(&c, c_file, err);

	if (r >= 0)
		r = map_open(&f, f_file, err);
	if (r < 0)
		return r;
	end = c.layer.size > f.layer.size ? c.layer.size : f.layer.size;
	for (uint64_t at = 0; at < end; at += WINDOW) {
		uint64_t empty = empty_length(&c, at, end);

		if (empty >= WINDOW) {
			uint64_t of_f = empty_length(&f, at, end);

			empty = empty < of_f ? empty : of_f;
		}
		if (empty >= WINDOW)
			at += empty / WINDOW * WINDOW - WINDOW; /* the loop adds the last one */
		else {
			read_window(&c, at);
			read_window(&f, at);
			count_window(&c, &f, &cost);
		}
	}
	add_tables(&cost.commit);
	add_tables(&cost.pull);
	*ret = cost;
	return 0;
}
