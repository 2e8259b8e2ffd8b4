/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one door for all that is told: engine_event. Whoever has something to tell names
 * it and what it is about; who that is, and when it was, is filled in here.
 */
#include "engine/core.h"

#include <stdarg.h>

DEFINE_CLEANUP(struct vm, vm_unref);

static void count_error(struct engine *e, const struct engine_event *event)
{
	LOCK_SCOPE(&e->lock);

	/* What fails again and again in the background is counted when it is told of. */
	if (event->weight != EVENT_DETAIL && event->code > 0 && event->code < ERRNO_END)
		e->metrics.errors[event->code]++;
}

/* A domain that is gone has left its UUID. */
static const char *uuid_of(struct engine *e, uint32_t vm_id)
{
	const struct slot *s = slot_find(e, vm_id);

	return s ? s->uuid : NULL;
}

void engine_event(struct engine *e, const struct engine_event *event, const char *fmt, ...)
{
	cleanup(vm_unref_p) struct vm *vm = event->vm_id ? engine_vm(e, event->vm_id) : NULL;
	const struct snapshot *s = vm ? vm_snapshot(vm, event->snapshot_id) : NULL;
	struct engine_event full = *event;
	struct err text = ERR_INIT; /* makes one line of it */
	char message[ERR_MSG_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	err_set(&text, 0, "%s", message);
	full.message = text.msg;
	if (!full.uuid)
		full.uuid = full.vm_id ? uuid_of(e, full.vm_id) : NULL;
	if (!full.vm && vm)
		full.vm = vm->name;
	if (!full.snapshot && s)
		full.snapshot = s->name;
	clock_gettime(CLOCK_REALTIME, &full.time);
	count_error(e, &full);
	if (e->observer->event)
		e->observer->event(e->observer->opaque, &full);
}
