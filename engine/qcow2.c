/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The map of one qcow2 file: from an offset in the image to one in the file.
 *
 * The L1 table is read at open. L2 tables are read when they are asked for,
 * into a small direct-mapped cache; a table is read outside the lock and put
 * in afterwards, so two readers may read the same one, and neither waits.
 *
 * Below a layer that shadows it, QEMU may write clusters into this file while
 * we read (docs/THREADS.md). What such a commit changes in our tables are the
 * entries of clusters that the layer above holds, which nobody asks us for; so
 * what was read once stays good. An L1 entry that was 0 and has a table by now
 * says of all others what 0 said.
 *
 * Data clusters are given where they lie. One that begins behind the end of
 * the file cannot be: EIO. One that goes over the end can: QEMU writes the last
 * cluster only as far as there is something in it; the rest is zero.
 */
#include "engine/qcow2.h"

#include "common/cleanup.h"
#include "common/mem.h"

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>

#define OFFSET_MASK 0x00fffffffffffe00ULL
#define L2_COMPRESSED (1ULL << 62)
#define L2_ZERO (1ULL << 0)
#define CACHE_BYTES (4u << 20)

struct table {
	uint32_t index; /* in L1 */
	int refs;
	uint64_t entries[];
};

struct qcow2 {
	struct qcow2_header *header;
	char *name;
	int fd;
	uint64_t cluster;  /* bytes */
	unsigned l2_bits;  /* log2 of the entries of a table */
	uint64_t *l1;

	pthread_mutex_t lock; /* of the cache; not held while reading */
	struct table **cache;
	uint32_t cache_slots;
};

static void table_unref(struct table *t)
{
	if (t && __atomic_sub_fetch(&t->refs, 1, __ATOMIC_ACQ_REL) == 0)
		free(t);
}

DEFINE_CLEANUP(struct table, table_unref);

static int read_exactly(const struct qcow2 *q, void *buf, size_t size, uint64_t at, struct err *err)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = pread(q->fd, (char *)buf + done, size - done, at + done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, EIO, "cannot read a table of %s", q->name);
		if (n == 0)
			return err_set(err, EIO, "%s is cut off: a table of it is missing", q->name);
		done += n;
	}
	return 0;
}

/* ---- open ---- */

static int read_l1(struct qcow2 *q, struct err *err)
{
	size_t n = q->header->l1_entries;

	q->l1 = calloc(n ? n : 1, sizeof(*q->l1));
	if (!q->l1)
		return err_set(err, ENOMEM, "%s: no memory for its L1 table", q->name);
	if (read_exactly(q, q->l1, n * sizeof(*q->l1), q->header->l1_offset, err) < 0)
		return -EIO;
	for (size_t i = 0; i < n; i++)
		q->l1[i] = be64toh(q->l1[i]);
	return 0;
}

static void set_up_cache(struct qcow2 *q)
{
	uint32_t slots = CACHE_BYTES / q->cluster;

	q->cache_slots = slots < q->header->l1_entries ? slots : q->header->l1_entries;
	if (q->cache_slots == 0)
		q->cache_slots = 1;
	q->cache = xcalloc(q->cache_slots, sizeof(*q->cache));
}

int qcow2_open(int fd, const char *name, struct qcow2 **ret, struct err *err)
{
	struct qcow2 *q = xnew(struct qcow2);
	int r;

	q->fd = fd;
	q->name = xstrdup(name);
	pthread_mutex_init(&q->lock, NULL);
	r = qcow2_header_read(fd, name, &q->header, err);
	if (r >= 0)
		r = qcow2_header_judge(q->header, name, err);
	if (r >= 0) {
		q->cluster = 1ULL << q->header->cluster_bits;
		q->l2_bits = q->header->cluster_bits - 3;
		set_up_cache(q);
		r = read_l1(q, err);
	}
	if (r < 0) {
		qcow2_close(q);
		return r;
	}
	*ret = q;
	return 0;
}

void qcow2_close(struct qcow2 *q)
{
	if (!q)
		return;
	for (uint32_t i = 0; i < q->cache_slots; i++)
		table_unref(q->cache[i]);
	free(q->cache);
	free(q->l1);
	qcow2_header_free(q->header);
	pthread_mutex_destroy(&q->lock);
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

/* ---- tables ---- */

static struct table *cache_find(struct qcow2 *q, uint32_t index)
{
	struct table *t;
	LOCK_SCOPE(&q->lock);

	t = q->cache[index % q->cache_slots];
	if (!t || t->index != index)
		return NULL;
	__atomic_add_fetch(&t->refs, 1, __ATOMIC_RELAXED);
	return t;
}

static void cache_put(struct qcow2 *q, struct table *t)
{
	struct table *old;

	__atomic_add_fetch(&t->refs, 1, __ATOMIC_RELAXED);
	pthread_mutex_lock(&q->lock);
	old = q->cache[t->index % q->cache_slots];
	q->cache[t->index % q->cache_slots] = t;
	pthread_mutex_unlock(&q->lock);
	table_unref(old);
}

/* The caller unrefs *ret. */
static int get_table(struct qcow2 *q, uint32_t index, struct table **ret, struct err *err)
{
	uint64_t at = q->l1[index] & OFFSET_MASK;
	size_t n = (size_t)1 << q->l2_bits;
	struct table *t = cache_find(q, index);
	int r;

	if (t) {
		*ret = t;
		return 0;
	}
	if (at % q->cluster)
		return err_set(err, EIO, "%s is damaged: an L2 table is not on a cluster", q->name);
	t = malloc(sizeof(*t) + n * sizeof(t->entries[0]));
	if (!t)
		return err_set(err, ENOMEM, "%s: no memory for an L2 table", q->name);
	t->index = index;
	t->refs = 1;
	r = read_exactly(q, t->entries, n * sizeof(t->entries[0]), at, err);
	if (r < 0) {
		free(t);
		return r;
	}
	for (size_t i = 0; i < n; i++)
		t->entries[i] = be64toh(t->entries[i]);
	cache_put(q, t);
	*ret = t;
	return 0;
}

/* ---- the map ---- */

/* The one place where an entry is understood. */
static int decode(const struct qcow2 *q, uint64_t entry, enum qcow2_kind *ret_kind,
		  uint64_t *ret_host, struct err *err)
{
	uint64_t host = entry & OFFSET_MASK;

	if (entry & L2_COMPRESSED)
		return err_set(err, EOPNOTSUPP, "%s has compressed clusters, which cannot be read",
			       q->name);
	if (entry & L2_ZERO) {
		if (q->header->version < 3)
			return err_set(err, EIO, "%s is damaged: a zero cluster in version 2",
				       q->name);
		*ret_kind = QCOW2_ZERO;
		return 0;
	}
	if (host == 0) {
		*ret_kind = QCOW2_UNALLOCATED;
		return 0;
	}
	if (host % q->cluster)
		return err_set(err, EIO, "%s is damaged: a data cluster is not on a cluster",
			       q->name);
	*ret_kind = QCOW2_DATA;
	*ret_host = host;
	return 0;
}

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* How far the run goes that begins with cluster `i` of a table. */
static uint64_t run_length(const struct qcow2 *q, const struct table *t, size_t i,
			   enum qcow2_kind kind, uint64_t host, uint64_t wanted)
{
	size_t n = (size_t)1 << q->l2_bits;
	uint64_t length = q->cluster;

	for (i++; i < n && length < wanted; i++, length += q->cluster) {
		enum qcow2_kind next;
		uint64_t at = 0;

		if (decode(q, t->entries[i], &next, &at, NULL) < 0 || next != kind)
			break;
		if (kind == QCOW2_DATA && at != host + length)
			break;
	}
	return length;
}

int qcow2_map(struct qcow2 *q, uint64_t offset, uint64_t length, enum qcow2_kind *ret_kind,
	      uint64_t *ret_length, uint64_t *ret_host_offset, struct err *err)
{
	cleanup(table_unref_p) struct table *t = NULL;
	unsigned bits = q->header->cluster_bits;
	uint64_t cluster_number = offset >> bits, within = offset & (q->cluster - 1), host = 0, run;
	uint64_t l1 = cluster_number >> q->l2_bits;
	size_t l2 = cluster_number & (((uint64_t)1 << q->l2_bits) - 1);
	enum qcow2_kind kind;
	int r;

	if (l1 >= q->header->l1_entries || (q->l1[l1] & OFFSET_MASK) == 0) {
		uint64_t next = (l1 + 1) << (q->l2_bits + bits);

		*ret_kind = QCOW2_UNALLOCATED;
		*ret_length = l1 >= q->header->l1_entries ? length : min(length, next - offset);
		return 0;
	}
	r = get_table(q, l1, &t, err);
	if (r >= 0)
		r = decode(q, t->entries[l2], &kind, &host, err);
	if (r < 0)
		return r;
	run = run_length(q, t, l2, kind, host, within + length);
	*ret_kind = kind;
	*ret_length = min(length, run - within);
	if (kind == QCOW2_DATA)
		*ret_host_offset = host + within;
	return 0;
}
