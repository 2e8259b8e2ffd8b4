/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A snapshot of several VMs at one moment.
 *
 * Each VM has an operation of its own, `group`, in a thread of its own. It is taking a snapshot
 * (create.c), but the VM is held for the moment, and the threads wait for each other at
 * four points:
 *
 *   READY    all overlays are there: what takes long is done
 *   AGENTS   those that are frozen by their guest agents are: it may take seconds
 *   FROZEN   all others are paused: nobody writes any more
 *   AGREED   all have their snapshot, and none is held any more
 *
 * Each VM is let go on as soon as it has its own snapshot: what it then writes, or tells
 * others, came after all of them were held, and so is in nobody's snapshot.
 *
 * All or none. What the last to come to AGREED writes into the registry, in one transaction, is
 * that the group snapshot is there. Before that each operation is undone, after it each is
 * finished, by whoever finds it open: an operation asks the registry, and nobody else, what
 * became of the whole. Whoever is found held is let go first, for the journal says that it may be,
 * before it is.
 *
 * Steps: `overlays`, `freeze`, `snapshot`, `thaw`, `agree`, `record`. From `freeze` to `agree`
 * the journal is not written: the VMs are held meanwhile.
 *
 * Undoing a snapshot that libvirt has is what rmdir does: its layers become tombstones, and it is
 * forgotten. They become that first: so it is known ever after that the overlays were in use.
 */
#include "engine/create.h"
#include "engine/domain-xml.h"
#include "engine/groups.h"
#include "engine/hooks.h"
#include "engine/metadata.h"
#include "engine/overlay.h"

#include <errno.h>

DEFINE_CLEANUP(struct snapshot_xml, snapshot_xml_free);

/* plan->flags, besides HV_CREATE_QUIESCE: it may be we who paused it. */
#define MAY_PAUSE (1U << 16)

/* ---- the points where they wait for each other ---- */

enum point { READY, AGENTS, FROZEN, AGREED, N_POINTS };

struct party {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	size_t n, arrived[N_POINTS];
	bool failed; /* one of them did: none goes on */
	bool agreed;
	const char *name; /* of the snapshot */
	uint32_t id;      /* the group snapshot's */
};

static void party_fail(struct party *party)
{
	LOCK_SCOPE(&party->lock);

	party->failed = true;
	pthread_cond_broadcast(&party->changed);
}

static int give_up(struct guest *g, struct err *err)
{
	g->gave_up = true;
	return err_set(err, ECANCELED, "another VM of the group has no snapshot");
}

/* -ECANCELED if one of the others failed. */
static int meet(struct guest *g, enum point point, struct err *err)
{
	struct party *party = g->opaque;
	LOCK_SCOPE(&party->lock);

	party->arrived[point]++;
	pthread_cond_broadcast(&party->changed);
	while (!party->failed && party->arrived[point] < party->n)
		pthread_cond_wait(&party->changed, &party->lock);
	return party->failed ? give_up(g, err) : 0;
}

static bool is_last(struct party *party)
{
	LOCK_SCOPE(&party->lock);

	return !party->failed && ++party->arrived[AGREED] == party->n;
}

/* The last one to come writes it down for all. */
static int agree(struct guest *g, struct err *err)
{
	struct party *party = g->opaque;
	bool last = is_last(party);
	int r = last ? registry_group_agree(g->e->registry, party->id, err) : 0;
	LOCK_SCOPE(&party->lock);

	party->agreed |= last && r >= 0;
	party->failed |= r < 0;
	pthread_cond_broadcast(&party->changed);
	while (!party->failed && !party->agreed)
		pthread_cond_wait(&party->changed, &party->lock);
	if (r < 0)
		return r;
	return party->agreed ? 0 : give_up(g, err);
}

/* ---- holding a VM, and letting it go ---- */

/* NULL for an operation that was found in the journal. */
static struct party *party_of(const struct op *op)
{
	return op->plan->guest ? op->plan->guest->opaque : NULL;
}

static const struct hv_ops *hv(const struct op *op)
{
	return op->e->hv->ops;
}

/* Through the agent; if that fails although it answers, and need not be, the VM is paused. */
static int freeze(struct op *op, struct err *err)
{
	int r = hv(op)->freeze(op->e->hv, op->slot->uuid, err);

	if (r >= 0 || op->slot->row.quiesce != QUIESCE_AUTO)
		return r;
	r = hv(op)->thaw(op->e->hv, op->slot->uuid, err);
	if (r < 0)
		return r;
	op->plan->flags &= ~HV_CREATE_QUIESCE;
	return op_note(op, "freeze", err); /* it says how consistent the snapshot is */
}

static int hold(struct op *op, struct err *err)
{
	struct guest *guest = op->plan->guest;
	int r = meet(guest, READY, err);

	guest->held = metrics_now();
	if (r >= 0 && (op->plan->flags & HV_CREATE_QUIESCE))
		r = freeze(op, err);
	if (r >= 0)
		r = meet(guest, AGENTS, err);
	if (r >= 0 && (op->plan->flags & MAY_PAUSE) && !(op->plan->flags & HV_CREATE_QUIESCE))
		r = hv(op)->suspend(op->e->hv, op->slot->uuid, err);
	return r < 0 ? r : meet(guest, FROZEN, err);
}

/* Repeated until it works: it is worse than a snapshot that failed. */
static int let_go(struct op *op, struct err *err)
{
	int r = 0;

	if (op->plan->flags & MAY_PAUSE)
		r = hv(op)->resume(op->e->hv, op->slot->uuid, err);
	if (r >= 0 && (op->plan->flags & HV_CREATE_QUIESCE))
		r = hv(op)->thaw(op->e->hv, op->slot->uuid, err);
	if (r < 0 && r != -EHOSTDOWN) {
		err_wrap(err, "the VM was held for a snapshot, and cannot be let go on (this is "
			 "tried again; if its guest agent has died, shut it off)");
		if (err)
			err->code = EBUSY;
		return -EBUSY;
	}
	return r;
}

/* ---- steps ---- */

/* A failure is everybody's, at once: others are held. */
static int all_fail(struct op *op, int r)
{
	if (r < 0)
		party_fail(party_of(op));
	return r;
}

static int step_overlays(struct op *op, struct err *err)
{
	return all_fail(op, overlays_create(op, err));
}

static int step_freeze(struct op *op, struct err *err)
{
	return all_fail(op, hold(op, err));
}

static int step_snapshot(struct op *op, struct err *err)
{
	return all_fail(op, hv(op)->snapshot_create(op->e->hv, op->slot->uuid, op->plan->xml,
						     HV_CREATE_UNSYNCED, err));
}

static int step_thaw(struct op *op, struct err *err)
{
	int r = let_go(op, err);

	if (r >= 0 && (op->plan->flags & HV_CREATE_QUIESCE))
		metrics_freeze(op->e, metrics_now() - op->plan->guest->held);
	if (r >= 0)
		r = hv(op)->sync(op->e->hv, op->slot->uuid, err);
	return all_fail(op, r);
}

static int step_agree(struct op *op, struct err *err)
{
	return all_fail(op, agree(op->plan->guest, err));
}

static int step_record(struct op *op, struct err *err)
{
	uint32_t id;
	int r = snapshot_record(op, &id, err);

	if (r >= 0)
		r = registry_group_record(op->e->registry, op->plan->group, op->slot->id, id, err);
	if (r < 0 || op->plan->guest)
		return r;
	return groups_publish(op->e, err); /* who took it, and would show it, is no more */
}

/* ---- undoing them ---- */

static int bury(struct op *op, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < op->plan->n_disks && r >= 0; i++)
		r = overlay_bury_below(op, &op->plan->disks[i], err);
	return r;
}

static int forget(struct op *op, struct err *err)
{
	cleanup(snapshot_xml_free_p) struct snapshot_xml *x = NULL;
	cleanup_free char *xml = NULL;
	int r = hv(op)->snapshot_xml(op->e->hv, op->slot->uuid, op->plan->name, &xml, err);

	if (r >= 0)
		r = snapshot_xml_parse(xml, &x, err);
	if (r >= 0)
		r = metadata_adopt(op->e, op->slot, op->plan->name, x->parent ?: "", err);
	return r < 0 ? r : hv(op)->snapshot_forget(op->e->hv, op->slot->uuid, op->plan->name, err);
}

static int undo_freeze(struct op *op, struct err *err)
{
	bool taken;
	int r = let_go(op, err);

	if (r >= 0)
		r = snapshot_is_taken(op, &taken, err);
	if (r >= 0 && taken)
		r = bury(op, err);
	if (r >= 0 && taken)
		r = forget(op, err);
	return r;
}

static bool is_among(const struct tombstone *graves, size_t n, const struct layer_file *file)
{
	for (size_t i = 0; i < n; i++)
		if (layer_file_same(&graves[i].file, file))
			return true;
	return false;
}

/* Those on a layer that is buried were in use, and stay. */
static int undo_overlays(struct op *op, struct err *err)
{
	struct tombstone *graves = NULL;
	size_t n = 0, buried = 0;
	bool taken = false;
	int r = registry_tombstones(op->e->registry, op->slot->id, &graves, &n, err);

	for (size_t i = 0; r >= 0 && i < op->plan->n_disks; i++)
		buried += is_among(graves, n, &op->plan->disks[i].below);
	tombstones_free(graves, n);
	if (r >= 0)
		r = snapshot_is_taken(op, &taken, err);
	if (r >= 0 && taken)
		return err_set(err, EBUSY, "the snapshot has not been forgotten yet");
	if (r < 0 || (buried && buried == op->plan->n_disks))
		return r;
	return overlays_remove(op, err);
}

static int settle(struct op *op, size_t step, size_t *ret_from, struct err *err)
{
	bool agreed;
	int r;

	if (step >= op->kind->no_return)
		return 0;
	if (party_of(op))
		party_fail(party_of(op));
	r = registry_group_is_agreed(op->e->registry, op->plan->group, &agreed, err);
	if (r < 0)
		return r;
	if (!agreed)
		return -ECANCELED;
	*ret_from = op->kind->no_return;
	return 0;
}

static const struct step steps[] = {
	{ "overlays", step_overlays, undo_overlays },
	{ "freeze", step_freeze, undo_freeze },
	{ "snapshot", step_snapshot, NULL, .unnoted = true },
	{ "thaw", step_thaw, NULL, .unnoted = true },
	{ "agree", step_agree, NULL, .unnoted = true },
	{ "record", step_record, NULL },
};

const struct op_kind group_op = { "group", steps, 6, 5, settle };

/* ---- one VM's part in it ---- */

/* An agent that is connected and does not answer would keep all waiting. */
static int plan_holding(struct guest *g, struct plan *plan, struct err *err)
{
	struct hv_domain state = { 0 };
	int r = g->e->hv->ops->lookup(g->e->hv, g->slot->uuid, &state, err);

	if (r < 0)
		return r;
	free(state.name);
	if (!streq(state.state, "paused"))
		plan->flags |= MAY_PAUSE;
	if (!(plan->flags & HV_CREATE_QUIESCE) ||
	    g->e->hv->ops->agent_answers(g->e->hv, g->slot->uuid))
		return 0;
	if (g->slot->row.quiesce == QUIESCE_YES)
		return err_set(err, ETIMEDOUT, "quiesce is 'yes' and the guest agent does not answer");
	plan->flags &= ~HV_CREATE_QUIESCE;
	return 0;
}

static int plan_and_take(struct guest *g, struct err *err)
{
	struct party *party = g->opaque;
	struct plan *plan = plan_new();
	double began = metrics_now();
	int r = snapshot_plan(g->e, g->slot, party->name, g->slot->row.quiesce, plan, err);

	if (r >= 0)
		r = plan_holding(g, plan, err);
	if (r < 0) {
		plan_free(plan);
		return r;
	}
	plan->group = party->id;
	plan->guest = g;
	r = op_run(g->e, g->slot, &group_op, plan, err);
	if (r >= 0)
		metrics_snapshot(g->e, metrics_now() - began);
	return r;
}

static int take_part(struct guest *g, struct err *err)
{
	struct party *party = g->opaque;
	int r = hooks_before(g->e, g->slot, HOOK_SNAPSHOT, party->name, err);

	if (r < 0)
		return r;
	r = plan_and_take(g, err);
	if (r < 0) {
		party_fail(party); /* before the hooks: others may be waiting */
		look(g->e, g->slot, LOOK_ALL, NULL);
		collect_later(g->e, g->slot);
	}
	hooks_after(g->e, g->slot, HOOK_SNAPSHOT, party->name, r, err);
	return r < 0 ? r : look(g->e, g->slot, LOOK_NEW, err);
}

static int take_part_or_fail(struct guest *g, struct err *err)
{
	int r = take_part(g, err);

	if (r < 0)
		party_fail(g->opaque);
	return r;
}

void group_take(struct guest *guests, size_t n, const char *name, uint32_t id)
{
	struct party party = { .n = n, .name = name, .id = id };

	pthread_mutex_init(&party.lock, NULL);
	pthread_cond_init(&party.changed, NULL);
	for (size_t i = 0; i < n; i++)
		guests[i].opaque = &party;
	guests_run(guests, n, take_part_or_fail);
	pthread_cond_destroy(&party.changed);
	pthread_mutex_destroy(&party.lock);
}
