/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Each refusal is one line of the log, and the VM's last error. */
#include "fs/core.h"

#include "common/log.h"

#include <errno.h>

/* What the admin has to do something about, and what the user was told. */
static int level_of(int code)
{
	return code == EIO || code == EHOSTDOWN || code == ENOSPC || code == ETIMEDOUT ?
		       LOG_WARNING :
		       LOG_INFO;
}

void log_refusal(const char *vm_name, const struct err *err)
{
	if (vm_name)
		log_at(level_of(err->code), "%s: %s", vm_name, err->msg);
	else
		log_at(level_of(err->code), "%s", err->msg);
}

void refuse(struct fs *fs, fuse_req_t req, const struct vm *vm, const struct err *err)
{
	log_refusal(vm ? vm->name : NULL, err);
	if (vm)
		engine_set_last_error(fs->e, vm->id, err->msg);
	fuse_reply_err(req, err->code);
}
