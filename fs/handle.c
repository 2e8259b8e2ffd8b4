/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/core.h"

#include "common/cleanup.h"

void handle_add(struct fs *fs, struct handle *h, void (*free_fn)(struct fs *, struct handle *))
{
	LOCK_SCOPE(&fs->lock);

	h->free = free_fn;
	h->prev = NULL;
	h->next = fs->handles;
	if (h->next)
		h->next->prev = h;
	fs->handles = h;
}

void handle_close(struct fs *fs, struct handle *h)
{
	pthread_mutex_lock(&fs->lock);
	if (h->prev)
		h->prev->next = h->next;
	else
		fs->handles = h->next;
	if (h->next)
		h->next->prev = h->prev;
	pthread_mutex_unlock(&fs->lock);
	h->free(fs, h);
}

void handles_close(struct fs *fs)
{
	while (fs->handles)
		handle_close(fs, fs->handles);
}
