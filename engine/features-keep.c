/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Features that are kept: in the VM's metadata at libvirt, so that they travel with its
 * definition, its snapshots and its clones. Those that somebody wrote and those that the guest's
 * agent told are there side by side, and each of them is only ever replaced as a whole.
 *
 * A VM that runs has two definitions, and libvirt writes one after the other. One step: `keep`.
 * Found open: if both of them have the new features, that is it; else, and whenever the step has
 * failed, both get those of before. So nobody finds at the VM's next start what was refused, or
 * loses what was not.
 */
#include "engine/domain-xml.h"
#include "engine/op.h"
#include "engine/recovery.h"

#include <errno.h>

DEFINE_CLEANUP(struct domain_xml, domain_xml_free);

/* Those that are kept in one of the two definitions, as they are handed to libvirt. */
static int kept_in(struct engine *e, const char *uuid, bool config, char **ret, struct err *err)
{
	cleanup(domain_xml_free_p) struct domain_xml *domain = NULL;
	cleanup_free char *xml = NULL;
	int r = e->hv->ops->domain_xml(e->hv, uuid, config, &xml, err);

	if (r >= 0)
		r = domain_xml_parse(xml, &domain, err);
	if (r >= 0)
		*ret = features_to_xml(&domain->features);
	return r;
}

/* 1 if both definitions have these, 0 if one has not. */
static int are_kept(struct engine *e, const char *uuid, const char *features, struct err *err)
{
	cleanup_free char *live = NULL, *config = NULL;
	int r = kept_in(e, uuid, false, &live, err);

	if (r >= 0)
		r = kept_in(e, uuid, true, &config, err);
	return r < 0 ? r : streq(live, features) && streq(config, features);
}

/* ---- the operation ---- */

static int set(struct op *op, const char *features, struct err *err)
{
	return op->e->hv->ops->set_metadata(op->e->hv, op->slot->uuid, FEATURES_NAMESPACE,
					    FEATURES_PREFIX, features[0] ? features : NULL, err);
}

static int step_keep(struct op *op, struct err *err)
{
	return set(op, op->plan->xml, err);
}

static int undo_keep(struct op *op, struct err *err)
{
	int r = set(op, op->plan->old_xml, err);

	return r == -ENOENT ? 0 : r; /* the VM is gone, with all that it had */
}

/* After a failure both may have them in libvirtd's memory, and not on its disk. */
static int settle(struct op *op, size_t step, size_t *ret_from, struct err *err)
{
	int r = op->failed ? 0 : are_kept(op->e, op->slot->uuid, op->plan->xml, err);

	if (r == -ENOENT || r == 0)
		return -ECANCELED;
	if (r < 0)
		return r;
	*ret_from = 1;
	return 0;
}

static const struct step steps[] = { { "keep", step_keep, undo_keep } };

const struct op_kind features_op = { "features", steps, 1, 1, settle };

/* ---- what is to be kept ---- */

/* `set` with what it has of the source replaced. */
static void replace(struct feature_set *set, enum feature_source source,
		    const struct feature_set *fresh)
{
	struct feature_set all = { 0 };

	for (size_t i = 0; i < set->n; i++)
		if (set->features[i].source != source)
			feature_set_add(&all, set->features[i].category, set->features[i].value,
					set->features[i].source);
	for (size_t i = 0; i < fresh->n; i++)
		feature_set_add(&all, fresh->features[i].category, fresh->features[i].value, source);
	feature_set_sort(&all);
	feature_set_clear(set);
	*set = all;
}

static int run(struct engine *e, struct slot *s, const char *features, const char *old,
	       struct err *err)
{
	struct plan *plan = plan_new();
	int r;

	plan->xml = xstrdup(features);
	plan->old_xml = xstrdup(old);
	r = op_run(e, s, &features_op, plan, err);
	if (r < 0) {
		look(e, s, LOOK_NEW, NULL);
		return r;
	}
	return look(e, s, LOOK_NEW, err);
}

static int put(struct engine *e, struct slot *s, const char *features, const char *old,
	       struct err *err)
{
	int r = are_kept(e, s->uuid, features, err);

	if (r != 0)
		return r < 0 ? r : look(e, s, LOOK_NEW, err);
	return run(e, s, features, old, err);
}

/* Puts `fresh` in the place of what was kept from that source. */
static int keep(struct engine *e, struct slot *s, enum feature_source source,
		const struct feature_set *fresh, struct err *err)
{
	cleanup(domain_xml_free_p) struct domain_xml *domain = NULL;
	cleanup_free char *xml = NULL, *old = NULL, *features = NULL;
	int r = e->hv->ops->domain_xml(e->hv, s->uuid, false, &xml, err);

	if (r >= 0)
		r = domain_xml_parse(xml, &domain, err);
	if (r < 0)
		return r;
	old = features_to_xml(&domain->features);
	replace(&domain->features, source, fresh);
	features = features_to_xml(&domain->features);
	return put(e, s, features, old, err);
}

int features_give(struct engine *e, struct slot *s, const struct feature_set *from,
		  struct err *err)
{
	cleanup_free char *old = NULL, *features = features_to_xml(from);
	int r = kept_in(e, s->uuid, false, &old, err);

	return r < 0 ? r : put(e, s, features, old, err);
}

/* ---- written ---- */

static int task_features(struct engine *e, struct slot *s, struct task *t, struct err *err)
{
	cleanup(feature_set_clear) struct feature_set written = { 0 };
	int r = features_parse(t->text, FEATURE_WRITTEN, &written, err);

	return r < 0 ? r : keep(e, s, FEATURE_WRITTEN, &written, err);
}

void engine_set_features(struct engine *e, uint32_t vm_id, const char *text, engine_done *done,
			 void *opaque)
{
	struct task *t = task_new(task_features, done, opaque);

	t->text = xstrdup(text);
	task_submit(e, vm_id, t);
}

/* ---- asked of the guest ---- */

/* What the guest's own file says, and the OS as its agent calls it, unless the file does. */
static int told(const char *text, char *os, struct feature_set *ret, struct err *err)
{
	int r = features_parse(text ?: "", FEATURE_AGENT, ret, err);

	if (r < 0) {
		err_wrap(err, "the guest's " FEATURES_GUEST_FILE);
		return r;
	}
	if (os)
		feature_squeeze(os);
	if (os && !feature_set_has(ret, "os") && feature_check("os", os, NULL) >= 0)
		feature_set_add(ret, "os", os, FEATURE_AGENT);
	return 0;
}

/* As libvirt has it: whoever has just started the VM need not wait until that is published. */
static int check_runs(struct engine *e, const struct slot *s, struct err *err)
{
	struct hv_domain state = { 0 };
	int r = e->hv->ops->lookup(e->hv, s->uuid, &state, err);

	free(state.name);
	if (r == -ENOENT || (r >= 0 && !state.active))
		return err_set(err, EINVAL, "the VM does not run, so its guest cannot be asked");
	return r;
}

static int ask(struct engine *e, struct slot *s, struct feature_set *ret, struct err *err)
{
	cleanup_free char *os = NULL, *text = NULL;
	int r = check_runs(e, s, err);

	if (r >= 0)
		r = e->hv->ops->guest_os(e->hv, s->uuid, &os, err);
	if (r >= 0)
		r = e->hv->ops->guest_file(e->hv, s->uuid, FEATURES_GUEST_FILE,
					   FEATURES_GUEST_FILE_MAX, &text, err);
	if (r < 0)
		return r;
	if (!os && !text)
		return err_set(err, EOPNOTSUPP, "the guest's agent tells nothing of its OS, and of "
			       FEATURES_GUEST_FILE " neither; what it told before stays");
	return told(text, os, ret, err);
}

static int task_ask(struct engine *e, struct slot *s, struct task *t, struct err *err)
{
	cleanup(feature_set_clear) struct feature_set said = { 0 };
	int r = ask(e, s, &said, err);

	if (r < 0) {
		err_wrap(err, "cannot ask the guest for its features");
		return r;
	}
	return keep(e, s, FEATURE_AGENT, &said, err);
}

void engine_ask_features(struct engine *e, uint32_t vm_id, engine_done *done, void *opaque)
{
	task_submit(e, vm_id, task_new(task_ask, done, opaque));
}
