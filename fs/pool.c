/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pool/, whose links say which snapshots are published, and what a pool has in the clones/.kws of
 * the snapshot that it publishes: of several pools on one snapshot, the oldest.
 */
#include "fs/pool.h"

#include "common/cleanup.h"
#include "fs/core.h"

#include <errno.h>
#include <inttypes.h>

DEFINE_CLEANUP(struct clone_list, clone_list_unref);
DEFINE_CLEANUP(struct pool_list, pool_list_unref);
DEFINE_CLEANUP(struct vm, vm_unref);

/* ---- what is there ---- */

bool pool_resolve(struct fs *fs, struct node *n)
{
	n->pools = engine_pools(fs->e);
	n->pool = pool_list_find(n->pools, n->key.vm);
	return n->pool;
}

static void pools_each(struct fs *fs, const struct node *dir, const struct row *row, each_fn *fn,
		       void *opaque)
{
	cleanup(pool_list_unref_p) struct pool_list *list = engine_pools(fs->e);

	for (size_t i = 0; i < list->n; i++)
		fn(opaque, list->pools[i].name,
		   (struct key){ .kind = row->kind, .vm = list->pools[i].id });
}

const struct many each_pool = { pools_each, many_find, NULL };

/* A snapshot that is gone is shown under the name that it had. */
int show_pool(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	cleanup(vm_unref_p) struct vm *vm = engine_vm(fs->e, n->pool->vm);
	const struct snapshot *s = vm ? vm_snapshot(vm, n->pool->snapshot) : NULL;

	if (s)
		fprintf(out, "../snapshots/%s/%s/clones", vm_dir_name(vm), s->name);
	else
		fprintf(out, "../snapshots/%s/clones", n->pool->path);
	return 0;
}

int show_pools_last_error(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	cleanup_free char *msg = engine_pools_last_error(fs->e);

	if (msg[0])
		fprintf(out, "%s\n", msg);
	return 0;
}

/* ---- doing ---- */

int pool_link(struct fs *fs, const struct node *dir, const char *name, const char *target,
	      engine_done *done, void *opaque, struct err *err)
{
	cleanup_node struct node at = NODE_INIT;

	if (node_find_target(fs, dir, target, &at) < 0 || at.key.kind != KIND_CLONES) {
		err_set(err, EINVAL, "'%s' is no clones/ of a snapshot of this mount: what is "
			"published is a link to ../snapshots/VM/SNAPSHOT/clones", target);
		engine_pools_set_last_error(fs->e, err->msg);
		return -EINVAL;
	}
	engine_pool_publish(fs->e, name, at.vm->id, at.snapshot->id, done, opaque);
	return 0;
}

static void end(struct fs *fs, int r, const struct err *err, engine_done *done, void *opaque)
{
	if (r < 0)
		engine_pools_set_last_error(fs->e, err->msg);
	done(opaque, r, err);
}

void pool_remove(struct fs *fs, const struct node *n, engine_done *done, void *opaque)
{
	struct err err = ERR_INIT;

	end(fs, engine_pool_withdraw(fs->e, n->pool->id, &err), &err, done, opaque);
}

void pool_rename(struct fs *fs, const struct node *n, const char *name, engine_done *done,
		 void *opaque)
{
	struct err err = ERR_INIT;

	end(fs, engine_pool_rename(fs->e, n->pool->id, name, &err), &err, done, opaque);
}

void pool_replace(struct fs *fs, const struct node *n, const char *name, engine_done *done,
		  void *opaque)
{
	struct err err = ERR_INIT;

	end(fs, engine_pool_replace(fs->e, n->pool->id, name, &err), &err, done, opaque);
}

/* ---- settings ---- */

static const struct pool_settings none = { .spare_wait = SPARE_WAIT_DEFAULT };

static struct pool_settings settings_of(struct fs *fs, const struct node *n)
{
	cleanup(pool_list_unref_p) struct pool_list *list = engine_pools(fs->e);
	const struct pool *p = pool_list_of(list, n->key.snapshot);

	return p ? p->settings : none;
}

int show_spare(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	fprintf(out, "%u\n", settings_of(fs, n).spare);
	return 0;
}

int show_spare_state(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	fprintf(out, "%s\n", spare_state_to_string(settings_of(fs, n).spare_state));
	return 0;
}

int show_spare_wait(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	fprintf(out, "%u\n", settings_of(fs, n).spare_wait);
	return 0;
}

static int parse_number(const char *what, const char *line, unsigned most, unsigned *ret,
			struct err *err)
{
	char *end = NULL;
	unsigned long number = strtoul(line, &end, 10);

	if (line[0] < '0' || line[0] > '9' || *end || number > most)
		return err_set(err, EINVAL, "%s is a number from 0 to %u, not '%s'", what, most, line);
	*ret = number;
	return 0;
}

enum setting { SETTING_SPARE, SETTING_STATE, SETTING_WAIT };

static int parse(enum setting which, const char *line, struct pool_settings *s, struct err *err)
{
	if (which == SETTING_SPARE)
		return parse_number("spare", line, SPARES_MOST, &s->spare, err);
	if (which == SETTING_WAIT)
		return parse_number("spare_wait", line, SPARE_WAIT_MOST, &s->spare_wait, err);
	if (spare_state_from_string(line, &s->spare_state) < 0)
		return err_set(err, EINVAL, "spare_state is defined, paused or saved, not '%s'", line);
	return 0;
}

static int set(struct fs *fs, const struct node *n, enum setting which, const char *line,
	       engine_done *done, void *opaque, struct err *err)
{
	cleanup(pool_list_unref_p) struct pool_list *list = engine_pools(fs->e);
	const struct pool *p = pool_list_of(list, n->key.snapshot);
	struct pool_settings s = p ? p->settings : none;
	int r = parse(which, line, &s, err);

	if (r >= 0 && !p && memcmp(&s, &none, sizeof(s)) != 0)
		return err_set(err, EINVAL, "no pool publishes this snapshot, and spares are a pool's: "
			       "ln -s ../snapshots/%s/%s/clones into pool/ first", vm_dir_name(n->vm),
			       n->snapshot->name);
	if (r >= 0 && p)
		r = engine_pool_set(fs->e, p->id, &s, err);
	if (r >= 0)
		done(opaque, 0, NULL);
	return r;
}

int store_spare(struct fs *fs, const struct node *n, const char *line, engine_done *done,
		void *opaque, struct err *err)
{
	return set(fs, n, SETTING_SPARE, line, done, opaque, err);
}

int store_spare_state(struct fs *fs, const struct node *n, const char *line, engine_done *done,
		      void *opaque, struct err *err)
{
	return set(fs, n, SETTING_STATE, line, done, opaque, err);
}

int store_spare_wait(struct fs *fs, const struct node *n, const char *line, engine_done *done,
		     void *opaque, struct err *err)
{
	return set(fs, n, SETTING_WAIT, line, done, opaque, err);
}

/* ---- status ---- */

static void print_pool(struct fs *fs, const struct pool *p, FILE *out)
{
	struct pool_health health;

	engine_pool_health(fs->e, p, &health);
	fprintf(out, "pool %s\n", p->name);
	fprintf(out, "spares %zu of %u %s\n", health.ready, p->settings.spare,
		spare_state_to_string(p->settings.spare_state));
	if (health.error[0])
		fprintf(out, "spare_error %s\n", health.error);
	free(health.error);
}

/* With tabs between them: names and states may have blanks. */
static void print_clone(struct fs *fs, const struct clone *c, const char *role, FILE *out)
{
	cleanup(vm_unref_p) struct vm *vm = engine_vm(fs->e, c->vm);
	cleanup(vm_unref_p) struct vm *source = engine_vm(fs->e, c->source);
	const struct snapshot *s = source ? vm_snapshot(source, c->snapshot) : NULL;

	fprintf(out, "%s\t%s\t%s\t%s\n", c->name, vm ? vm->state : "undefined", s ? s->name : "-",
		role);
}

/* Those of this snapshot, and those that were made for its pool when that published another. */
static void print_clones(struct fs *fs, const struct node *n, const struct pool *p, FILE *out)
{
	cleanup(clone_list_unref_p) struct clone_list *list = engine_clones(fs->e);

	for (size_t i = 0; i < list->n; i++) {
		const struct clone *c = list->clones[i];
		bool here = c->snapshot == n->snapshot->id;

		if (here || (p && c->pool == p->id))
			print_clone(fs, c, c->spare ? "spare" : here ? "current" : "outdated", out);
	}
}

int show_pool_status(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	cleanup(pool_list_unref_p) struct pool_list *list = engine_pools(fs->e);
	const struct pool *p = pool_list_of(list, n->snapshot->id);

	if (p)
		print_pool(fs, p, out);
	print_clones(fs, n, p, out);
	return 0;
}
