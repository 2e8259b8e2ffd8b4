/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/gather.h"

/* What follows immediately belongs to the same piece. */
static void add(struct gather *g, void *p, size_t length)
{
	struct iovec *last = g->n ? &g->iov[g->n - 1] : NULL;

	if (last && (char *)last->iov_base + last->iov_len == p)
		last->iov_len += length;
	else
		g->iov[g->n++] = (struct iovec){ p, length };
}

/* The last place is kept for the buffer: it then takes all the rest. */
bool gather_can_point(const struct gather *g)
{
	return g->iov && g->n + 1 < g->max;
}

void gather_point(struct gather *g, const void *p, size_t length)
{
	add(g, (void *)p, length);
}

void *gather_room(struct gather *g, size_t length)
{
	char *p = g->buf + g->used;

	g->used += length;
	if (g->iov)
		add(g, p, length);
	return p;
}
