/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The check as a whole: the registry's file, each VM, VMs that are gone, orphans.
 *
 * Repairing is careful. What only records or describes is put right: a row of the
 * registry, a chain in a definition that the headers contradict, a tombstone that was
 * forgotten. An operation that was interrupted is ended as ever, by what is there. But
 * for that no image is written here and none is deleted; a layer that is buried again is
 * merged, or deleted, by the ordinary collection, which proves everything for itself.
 * The rest is said to a person.
 */
#include "engine/fsck.h"

#include "engine/orphans.h"

#include <errno.h>
#include <stdarg.h>

DEFINE_CLEANUP(struct orphan_list, orphan_list_unref);

/* ---- findings ---- */

static void say(struct fsck *f, const char *what, const char *how, const char *remedy)
{
	struct err line; /* makes one line of it, whatever is in the names */

	err_set(&line, EINVAL, "%s; %s: %s", what, how, remedy);
	fprintf(f->out, "%s\n", line.msg);
}

void fsck_by_hand(struct fsck *f, const char *remedy, const char *fmt, ...)
{
	char what[ERR_MSG_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	f->left++;
	say(f, what, "by hand", remedy);
}

bool fsck_mendable(struct fsck *f, const char *remedy, const char *fmt, ...)
{
	struct err what;
	char text[ERR_MSG_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!f->repair) {
		f->left++;
		say(f, text, "would", remedy);
		return false;
	}
	err_set(&what, EINVAL, "%s", text);
	fprintf(f->out, "%s; ", what.msg);
	return true;
}

void fsck_mended(struct fsck *f, const char *remedy, int r, const struct err *err)
{
	if (r < 0) {
		f->left++;
		fprintf(f->out, "failed: %s (%s)\n", remedy, err->msg);
	} else {
		f->fixed++;
		fprintf(f->out, "done: %s\n", remedy);
	}
}

static void visit_clear(struct visit *v)
{
	domain_xml_free(v->live);
	domain_xml_free(v->config);
	snapshots_metadata_clear(&v->snapshots);
}

static int read_domain(struct visit *v, bool config, struct domain_xml **ret, struct err *err)
{
	struct hv *hv = v->f->e->hv;
	cleanup_free char *xml = NULL;
	int r;

	if (config ? !v->domain->persistent : !v->domain->active)
		return 0;
	r = hv->ops->domain_xml(hv, v->domain->uuid, config, &xml, err);
	return r < 0 ? r : domain_xml_parse(xml, ret, err);
}

/* ---- operations that were interrupted ---- */

/* As a daemon does when it starts: all VMs are looked at, and their trees are settled. What
 * is open then are merges. */
static int settle_trees(struct fsck *f, struct err *err)
{
	int r;

	if (!f->alone)
		return 0;
	r = journal_open_ops(f->e->registry, 0, &f->open, &f->n_open, err);
	return r < 0 || !f->n_open || !f->repair ? r : look_at_all(f->e, err);
}

/* Who needs which layer is not known as long as the tree of any VM is in flux. */
static int check_all_settled(struct engine *e, struct err *err)
{
	LOCK_SCOPE(&e->lock);

	for (size_t i = 0; i < e->slots.n; i++)
		if (e->slots.at[i]->unsettled)
			return err_set(err, EBUSY, "%s", e->slots.at[i]->last_error ?:
							 "an operation of another VM is open");
	return 0;
}

static int finish_merges(struct visit *v, struct err *err)
{
	struct engine *e = v->f->e;
	int r = check_all_settled(e, err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&e->lock);
	v->slot->busy = true; /* the events of its block jobs are for us */
	pthread_mutex_unlock(&e->lock);
	r = recover(e, v->slot, RECOVER_ALL, err);
	pthread_mutex_lock(&e->lock);
	v->slot->busy = false;
	pthread_mutex_unlock(&e->lock);
	return r;
}

/* In the daemon they have been settled before the visit. */
static void check_journal(struct visit *v)
{
	static const char remedy[] = "finish it, or take it back";

	for (size_t i = 0; i < v->f->n_open; i++) {
		const struct journal_op *op = &v->f->open[i];
		struct err why = ERR_INIT;
		int r;

		if (op->vm != v->id)
			continue;
		if (!fsck_mendable(v->f, remedy, "%s: an operation (%s) was interrupted at its step "
				   "'%s'", v->domain->name, op->kind, op->step)) {
			v->open_ops = true;
			continue;
		}
		r = finish_merges(v, &why);
		fsck_mended(v->f, remedy, r, &why);
		v->open_ops = v->open_ops || r < 0;
	}
}

/* ---- one VM ---- */

int fsck_visit(struct fsck *f, const struct hv_domain *domain, struct slot *s, uint32_t id,
	       struct err *err)
{
	cleanup(visit_clear) struct visit v = { .f = f, .domain = domain, .slot = s, .id = id };
	int r;

	check_journal(&v);
	r = read_domain(&v, false, &v.live, err);
	if (r >= 0)
		r = read_domain(&v, true, &v.config, err);
	if (r >= 0)
		r = snapshots_metadata_read(f->e, domain->uuid, &v.snapshots, err);
	if (r == -ENOENT)
		return 0; /* it went since it was listed */
	if (r < 0)
		return r;
	fsck_layers(&v);
	if (v.open_ops)
		return 0;
	fsck_snapshots(&v);
	fsck_config(&v);
	return fsck_records(&v, err);
}

/* ---- in the daemon: by a task ---- */

struct errand {
	struct fsck *f;
	const struct hv_domain *domain;
	pthread_mutex_t lock;
	pthread_cond_t ended;
	bool visited, over;
	int r;
	struct err err;
};

static int task_visit(struct engine *e, struct slot *s, struct task *t, struct err *err)
{
	struct errand *errand = t->opaque;
	size_t fixed = errand->f->fixed;
	int r = fsck_visit(errand->f, errand->domain, s, s->id, err);

	errand->visited = true;
	if (errand->f->fixed > fixed)
		look(e, s, LOOK_ALL, NULL);
	return r;
}

static void on_visited(void *opaque, int r, const struct err *err)
{
	struct errand *errand = opaque;
	LOCK_SCOPE(&errand->lock);

	errand->r = r;
	errand->err = *err;
	errand->over = true;
	pthread_cond_signal(&errand->ended);
}

static int send_task(struct fsck *f, const struct hv_domain *domain, struct slot *s,
		     struct err *err)
{
	struct errand errand = { .f = f, .domain = domain, .lock = PTHREAD_MUTEX_INITIALIZER,
				 .ended = PTHREAD_COND_INITIALIZER };

	task_submit(f->e, s->id, task_new(task_visit, on_visited, &errand));
	pthread_mutex_lock(&errand.lock);
	while (!errand.over)
		pthread_cond_wait(&errand.ended, &errand.lock);
	pthread_mutex_unlock(&errand.lock);
	if (errand.r == -ENOENT)
		return 0; /* it went */
	if (errand.r < 0 && !errand.visited && errand.r != -EHOSTDOWN) {
		/* What is open of it cannot be settled. */
		fsck_by_hand(f, "see to what keeps it from that", "%s: %s", domain->name,
			     errand.err.msg);
		return 0;
	}
	if (errand.r < 0)
		*err = errand.err;
	return errand.r;
}

/* ---- all of them ---- */

static int visit_alone(struct fsck *f, const struct hv_domain *domain, struct err *err)
{
	struct slot *s = NULL;
	uint32_t id = 0;
	int r;

	if (f->repair) {
		r = slot_for(f->e, domain->uuid, &s, err);
		if (r < 0)
			return r;
		return fsck_visit(f, domain, s, s->id, err);
	}
	r = registry_vm_find(f->e->registry, domain->uuid, &id, err);
	return r < 0 && r != -ENOENT ? r : fsck_visit(f, domain, NULL, id, err);
}

static int visit(struct fsck *f, const struct hv_domain *domain, struct err *err)
{
	struct slot *s;

	if (f->alone)
		return visit_alone(f, domain, err);
	pthread_mutex_lock(&f->e->lock);
	s = slot_by_uuid(f->e, domain->uuid);
	pthread_mutex_unlock(&f->e->lock);
	/* One that was defined just now will be known in a moment. */
	return s ? send_task(f, domain, s, err) : 0;
}

static int check_registry(struct fsck *f, struct err *err)
{
	cleanup_free char *complaint = NULL;
	int r = registry_integrity(f->e->registry, &complaint, err);

	if (r < 0 || !complaint[0])
		return r;
	fsck_by_hand(f, "end kwsfs, move registry.db away and start it again: what libvirt and the "
		     "images know is learned anew", "the registry is damaged: %s", complaint);
	f->repair = false; /* what it says is no ground to do anything on */
	return 0;
}

static int check_orphans(struct fsck *f, struct err *err)
{
	cleanup(orphan_list_unref_p) struct orphan_list *list = NULL;
	int r = orphans_find(f->e, &list, err);

	for (size_t i = 0; r >= 0 && i < list->n; i++)
		fsck_by_hand(f, "rm it in lost+found if it is not wanted",
			     "%s: nobody needs this image, it is lost+found/%s",
			     list->orphans[i].path, list->orphans[i].name);
	return r;
}

static int check_all(struct fsck *f, const struct hv_domain *domains, size_t n, struct err *err)
{
	cleanup(orphan_list_unref_p) struct orphan_list *before = NULL;
	int r = check_registry(f, err);

	if (r >= 0)
		r = settle_trees(f, err);
	/* Also so that the folders are known from which the evidence is gathered. */
	if (r >= 0)
		r = orphans_find(f->e, &before, err);
	if (r >= 0)
		r = evidence_gather(f->e, &f->ev, err);
	for (size_t i = 0; i < n && r >= 0; i++)
		r = visit(f, &domains[i], err);
	if (r >= 0 && !f->alone && is_stopping(f->e))
		return err_set(err, ESHUTDOWN, "kwsfs is ending");
	if (r >= 0)
		r = fsck_gone(f, err);
	return r < 0 ? r : check_orphans(f, err);
}

static void fsck_clear(struct fsck *f)
{
	journal_ops_free(f->open, f->n_open);
	evidence_clear(&f->ev);
	for (size_t i = 0; i < f->seen.n; i++)
		layer_file_clear(&f->seen.at[i]);
	vec_free(&f->seen);
}

/* Writes the report, also of a check that failed: as far as it came. */
static int check(struct engine *e, bool repair, bool alone, char **ret_report, struct err *err)
{
	cleanup(fsck_clear) struct fsck f = { .e = e, .repair = repair, .alone = alone };
	struct hv_domain *domains = NULL;
	size_t n = 0, size;
	int r;

	f.out = open_memstream(ret_report, &size);
	r = e->hv->ops->list(e->hv, &domains, &n, err);
	if (r >= 0)
		r = check_all(&f, domains, n, err);
	if (r < 0)
		fprintf(f.out, "the check ended here: %s\n", err->msg);
	else
		fprintf(f.out, FSCK_SUMMARY "\n", f.fixed, f.left);
	fclose(f.out);
	hv_domains_free(domains, n);
	return r;
}

/* ---- doors ---- */

struct fsck_chore {
	struct chore chore;
	bool repair;
	char **ret_report;
};

static int chore_fsck(struct engine *e, struct chore *c, struct err *err)
{
	struct fsck_chore *f = (struct fsck_chore *)c;

	if (!e->hv->ops->connected(e->hv))
		return err_set(err, EHOSTDOWN, "libvirt does not answer: nothing can be checked");
	engine_vms_refresh(e);
	return check(e, f->repair, false, f->ret_report, err);
}

void engine_fsck(struct engine *e, bool repair, char **ret_report, engine_done *done,
		 void *opaque)
{
	struct fsck_chore *f = xnew(struct fsck_chore);

	*f = (struct fsck_chore){ .chore = { .run = chore_fsck, .done = done, .opaque = opaque },
				  .repair = repair, .ret_report = ret_report };
	chore_submit(e, &f->chore);
}

int engine_fsck_alone(const struct engine_options *opts, bool repair, char **ret_report,
		      char **ret_mountpoint, struct err *err)
{
	struct engine *e = NULL;
	int r = engine_open_to_check(opts, repair, &e, err);

	if (r == -EBUSY)
		*ret_mountpoint = engine_mountpoint(opts->state_dir);
	if (r < 0)
		return r;
	r = check(e, repair, true, ret_report, err);
	engine_close(e);
	return r;
}
