/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * clones/ of a snapshot: the VMs that were made from it. A spare is none of them until somebody
 * takes it. One that somebody undefined stays until it is removed here: it is known by its state.
 */
#include "fs/clones.h"

#include "common/cleanup.h"
#include "fs/core.h"

#include <errno.h>

DEFINE_CLEANUP(struct clone_list, clone_list_unref);
DEFINE_CLEANUP(struct vm, vm_unref);

bool clone_resolve(struct fs *fs, struct node *n)
{
	n->clones = engine_clones(fs->e);
	n->clone = clone_list_find(n->clones, n->key.snapshot);
	if (!n->clone || n->clone->spare || n->clone->source != n->vm->id)
		return false;
	n->snapshot = vm_snapshot(n->vm, n->clone->snapshot);
	n->clone_vm = engine_vm(fs->e, n->clone->vm);
	return n->snapshot;
}

/* ---- listing ---- */

static void clones_each(struct fs *fs, const struct node *dir, const struct row *row, each_fn *fn,
			void *opaque)
{
	cleanup(clone_list_unref_p) struct clone_list *list = engine_clones(fs->e);
	struct clone *const *clones;
	size_t n;

	clones = clone_list_of(list, dir->snapshot->id, &n);
	for (size_t i = 0; i < n; i++)
		if (!clones[i]->spare)
			fn(opaque, clones[i]->name,
			   (struct key){ .kind = row->kind, .vm = dir->vm->id,
					 .snapshot = clones[i]->id });
}

static size_t clones_count(struct fs *fs, const struct node *dir)
{
	return many_count(fs, dir, row_of(KIND_CLONE));
}

const struct many each_clone = { clones_each, many_find, clones_count };

/* ---- doing ---- */

void clone_make_dir(struct fs *fs, const struct node *dir, const char *name, engine_done *done,
		    void *opaque)
{
	engine_clone_create(fs->e, dir->vm->id, dir->snapshot->id, name, done, opaque);
}

void clone_remove_dir(struct fs *fs, const struct node *n, engine_done *done, void *opaque)
{
	engine_clone_remove(fs->e, n->clone->id, done, opaque);
}

/* ---- what is in it ---- */

/* Of one that is undefined there is none. */
bool clone_is_vm(const struct node *n)
{
	return n->clone_vm;
}

int show_clone_vm(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	fprintf(out, "../../../../%s", vm_dir_name(n->clone_vm));
	return 0;
}

int show_clone_state(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	fprintf(out, "%s\n", n->clone_vm ? n->clone_vm->state : "undefined");
	return 0;
}

int store_clone_state(struct fs *fs, const struct node *n, const char *line, engine_done *done,
		      void *opaque, struct err *err)
{
	static const struct {
		const char *word;
		enum clone_order order;
	} words[] = {
		{ "start", CLONE_START }, { "stop", CLONE_STOP },
		{ "shutdown", CLONE_SHUTDOWN }, { "reset", CLONE_RESET },
	};

	if (!n->clone_vm)
		return err_set(err, ENOENT, "the VM is not defined any more: rmdir forgets it");
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (!streq(line, words[i].word))
			continue;
		engine_clone_order(fs->e, n->clone->id, words[i].order, done, opaque);
		return 0;
	}
	return err_set(err, EINVAL, "write start, stop, shutdown or reset, not '%s'", line);
}

/* ---- what the guests are told ---- */

static enum clone_text which_text(const struct node *n)
{
	return n->row->kind == KIND_CLONES_META ? CLONE_META : CLONE_USER_DATA;
}

int show_clone_text(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	cleanup_free char *text = NULL;
	int r = engine_clone_text(fs->e, n->snapshot->id, which_text(n), &text, err);

	if (r >= 0)
		fputs(text, out);
	return r;
}

int store_clone_text(struct fs *fs, const struct node *n, const char *text, engine_done *done,
		     void *opaque, struct err *err)
{
	engine_set_clone_text(fs->e, n->vm->id, n->snapshot->id, which_text(n), text, done, opaque);
	return 0;
}

int show_promote_help(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	fputs("# write 1 to make the clone independent of the snapshot; it may run meanwhile\n", out);
	return 0;
}

int store_promote(struct fs *fs, const struct node *n, const char *line, engine_done *done,
		  void *opaque, struct err *err)
{
	if (!streq(line, "1"))
		return err_set(err, EINVAL, "write 1 to make the clone independent, not '%s'", line);
	engine_clone_promote(fs->e, n->clone->id, done, opaque);
	return 0;
}
