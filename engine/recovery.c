/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What of recovery is about no VM. */
#include "engine/recovery.h"

void recovery_init(struct engine *e)
{
	e->recovery.settings = xnew(struct recovery_settings);
	e->recovery.settings->refs = 1;
}

int recovery_open(struct engine *e, struct err *err)
{
	return recovery_settings_open(e, err);
}

void recovery_free(struct engine *e)
{
	recovery_settings_unref(e->recovery.settings);
	free(e->recovery.last_error);
}

char *engine_recovery_last_error(struct engine *e)
{
	LOCK_SCOPE(&e->lock);

	return xstrdup(e->recovery.last_error ?: "");
}

void engine_recovery_set_last_error(struct engine *e, const char *msg)
{
	LOCK_SCOPE(&e->lock);

	free(e->recovery.last_error);
	e->recovery.last_error = xstrdup(msg);
}
