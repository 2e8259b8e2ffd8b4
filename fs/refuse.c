/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Each refusal is an event, and the VM's last error. */
#include "fs/core.h"

#include <errno.h>

/* What the admin has to do something about, and what the user was told. */
static enum event_weight weight_of(int code)
{
	return code == EIO || code == EHOSTDOWN || code == ENOSPC || code == ETIMEDOUT ?
		       EVENT_TROUBLE :
		       EVENT_NOTE;
}

void tell_refusal(struct fs *fs, struct engine_event about, const struct err *err)
{
	about.name = "refused";
	about.code = err->code;
	about.weight = weight_of(err->code);
	engine_event(fs->e, &about, "%s", err->msg);
}

void refuse(struct fs *fs, fuse_req_t req, const struct vm *vm, const struct err *err)
{
	tell_refusal(fs, (struct engine_event){ .vm_id = vm ? vm->id : 0 }, err);
	engine_set_last_error(fs->e, vm ? vm->id : 0, err->msg);
	fuse_reply_err(req, err->code);
}

void refuse_at(struct fs *fs, fuse_req_t req, const struct node *n, const struct err *err)
{
	if (n->group)
		engine_group_set_last_error(fs->e, n->group->id, err->msg);
	refuse(fs, req, n->vm, err);
}
