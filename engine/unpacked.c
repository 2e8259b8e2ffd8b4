/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/unpacked.h"

#include "common/cleanup.h"
#include "common/mem.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define MOST_BYTES (32u << 20)

struct unpacked {
	const struct qcow2 *q;
	uint64_t entry;
	size_t size;
	int refs;
	struct unpacked *next; /* used less recently */
	char content[];
};

/* A list is enough: it is short beside the time that decompressing takes. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct unpacked *first;
static size_t bytes;

static void unref(struct unpacked *u)
{
	if (u && __atomic_sub_fetch(&u->refs, 1, __ATOMIC_ACQ_REL) == 0)
		free(u);
}

DEFINE_CLEANUP(struct unpacked, unref);

/* Takes it out of the list. The lock is held. */
static struct unpacked *take(struct unpacked **place)
{
	struct unpacked *u = *place;

	*place = u->next;
	bytes -= u->size;
	return u;
}

/* Puts it in front. The lock is held. */
static void put(struct unpacked *u)
{
	u->next = first;
	first = u;
	bytes += u->size;
}

/* The lock is held. */
static void drop_least_recent(void)
{
	struct unpacked **place = &first;

	while ((*place)->next)
		place = &(*place)->next;
	unref(take(place));
}

/* With a reference, or NULL. */
static struct unpacked *find(const struct qcow2 *q, uint64_t entry)
{
	LOCK_SCOPE(&lock);

	for (struct unpacked **place = &first; *place; place = &(*place)->next) {
		struct unpacked *u = *place;

		if (u->q != q || u->entry != entry)
			continue;
		put(take(place));
		__atomic_add_fetch(&u->refs, 1, __ATOMIC_RELAXED);
		return u;
	}
	return NULL;
}

/* Two readers may both unpack one cluster, and then it is there twice: no harm. */
static int unpack(const struct qcow2 *q, uint64_t entry, struct unpacked **ret, struct err *err)
{
	size_t size = qcow2_cluster_size(q);
	struct unpacked *u = malloc(sizeof(*u) + size);
	int r;

	if (!u)
		return err_set(err, ENOMEM, "no memory to decompress a cluster");
	*u = (struct unpacked){ .q = q, .entry = entry, .size = size, .refs = 2 };
	r = qcow2_decompress(q, entry, u->content, err);
	if (r < 0) {
		free(u);
		return r;
	}
	LOCK_SCOPE(&lock);
	put(u);
	while (bytes > MOST_BYTES)
		drop_least_recent();
	*ret = u;
	return 0;
}

int unpacked_read(const struct qcow2 *q, uint64_t entry, uint64_t within, size_t length, void *buf,
		  struct err *err)
{
	cleanup(unref_p) struct unpacked *u = find(q, entry);
	int r = u ? 0 : unpack(q, entry, &u, err);

	if (r < 0)
		return r;
	memcpy(buf, u->content + within, length);
	return 0;
}

void unpacked_forget(const struct qcow2 *q)
{
	LOCK_SCOPE(&lock);

	for (struct unpacked **place = &first; *place;)
		if ((*place)->q == q)
			unref(take(place));
		else
			place = &(*place)->next;
}
