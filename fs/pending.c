/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests that wait for the engine. The request is kept, the worker goes on
 * with others, and the engine's thread answers: so any number of VMs can be
 * busy without using up the workers. Such a request is not interrupted: what
 * was begun is ended, and the result is what the caller then sees.
 */
#include "fs/core.h"

struct pending *pending_new(struct fs *fs, fuse_req_t req, const struct node *n,
			    void (*reply)(struct pending *p))
{
	struct pending *p = xnew(struct pending);

	p->fs = fs;
	p->req = req;
	p->reply = reply;
	p->key = n->key;
	p->vm_name = n->vm ? xstrdup(n->vm->name)
			   : n->group ? xasprintf("groups/%s", n->group->name)
			   : n->pool  ? xasprintf("pool/%s", n->pool->name) : NULL;
	return p;
}

void pending_free(struct pending *p)
{
	free(p->vm_name);
	free(p->name);
	free(p);
}

static struct engine_event about(const struct pending *p)
{
	enum level level = row_of(p->key.kind)->level;
	struct engine_event event = { .vm = p->vm_name };

	if (level >= LEVEL_VM)
		event.vm_id = p->key.vm;
	if (level >= LEVEL_SNAPSHOT)
		event.snapshot_id = p->key.snapshot;
	else if (level == LEVEL_VM)
		event.snapshot = p->name;
	return event;
}

void pending_done(void *opaque, int r, const struct err *err)
{
	struct pending *p = opaque;

	if (r < 0) {
		tell_refusal(p->fs, about(p), err);
		fuse_reply_err(p->req, -r);
	} else {
		p->reply(p);
	}
	pending_free(p);
}

void pending_reply_ok(struct pending *p)
{
	fuse_reply_err(p->req, 0);
}
