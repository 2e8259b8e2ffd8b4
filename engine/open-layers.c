/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file is known by its device and inode, which cannot come to mean another one
 * while it is open. What was read of it may be out of date: a merge into it changes
 * its size and its backing file's name. An image that was opened before goes on with
 * the old ones, which are right for what lies on it; one that is opened now must see
 * the new ones. So the header is read each time, and a layer is shared only if it
 * says the same.
 */
#include "engine/open-layers.h"

#include "common/cleanup.h"
#include "common/mem.h"

#include <pthread.h>
#include <stddef.h>
#include <sys/stat.h>

#define BUCKETS 1024

struct open_layer {
	struct chain_layer layer;
	int refs;
	struct open_layer *next; /* in the bucket */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct open_layer *buckets[BUCKETS];

static struct open_layer **bucket_of(ino_t ino)
{
	return &buckets[ino % BUCKETS];
}

static void put(struct open_layer *l)
{
	pthread_mutex_lock(&lock);
	if (--l->refs > 0) {
		pthread_mutex_unlock(&lock);
		return;
	}
	for (struct open_layer **place = bucket_of(l->layer.ino); *place; place = &(*place)->next) {
		if (*place != l)
			continue;
		*place = l->next;
		break;
	}
	pthread_mutex_unlock(&lock);
	chain_layer_close(&l->layer);
	free(l);
}

void open_layer_put(const struct chain_layer *layer)
{
	if (layer)
		put((struct open_layer *)((char *)layer - offsetof(struct open_layer, layer)));
}

/* One that is open, with a reference; NULL if there is none. */
static struct open_layer *find(const char *path, bool qcow2, const struct stat *st)
{
	LOCK_SCOPE(&lock);

	for (struct open_layer *l = *bucket_of(st->st_ino); l; l = l->next) {
		if (l->layer.ino != st->st_ino || l->layer.dev != st->st_dev ||
		    !l->layer.qcow2 == qcow2 || !streq(l->layer.path, path))
			continue;
		l->refs++;
		return l;
	}
	return NULL;
}

/* In front of one that is out of date. */
static void add(struct open_layer *l)
{
	struct open_layer **bucket = bucket_of(l->layer.ino);
	LOCK_SCOPE(&lock);

	l->next = *bucket;
	*bucket = l;
}

static bool is_up_to_date(const struct chain_layer *layer)
{
	struct qcow2_header *now;
	uint64_t size;
	bool same;

	if (!layer->qcow2)
		return raw_size(layer->fd, layer->path, &size, NULL) >= 0 && size == layer->size;
	/* Nobody keeps data files apart: they are opened by name again. */
	if (layer->fd >= 0 || qcow2_header_read(qcow2_fd(layer->qcow2), layer->path, &now, NULL) < 0)
		return false;
	same = qcow2_header_equal(now, qcow2_header(layer->qcow2));
	qcow2_header_free(now);
	return same;
}

int open_layer_get(const char *path, const char *format, const struct chain_layer **ret,
		   struct err *err)
{
	struct open_layer *l = NULL;
	struct stat st;
	int r;

	if (stat(path, &st) == 0)
		l = find(path, streq(format, "qcow2"), &st);
	if (l && is_up_to_date(&l->layer)) {
		*ret = &l->layer;
		return 0;
	}
	if (l)
		put(l);
	l = xnew(struct open_layer);
	l->refs = 1;
	r = chain_layer_open(&l->layer, path, format, err);
	if (r < 0) {
		chain_layer_close(&l->layer);
		free(l);
		return r;
	}
	add(l);
	*ret = &l->layer;
	return 0;
}
