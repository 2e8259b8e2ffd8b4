/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pre- hook may stop a database, so whatever becomes of the operation, the post- hooks
 * run: to let it go on. Of that only a kwsfs that is killed meanwhile does nothing.
 *
 * They run with all that kwsfs may do. So folder and files have to belong to root, or to whoever
 * runs kwsfs, and nobody else may write to them; all that are to run are looked at before
 * the first one does.
 */
#include "engine/hooks.h"

#include "common/utf8.h"
#include "engine/program.h"

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>

DEFINE_CLEANUP(struct vm, vm_unref);

static const char *const operation_names[] = { "snapshot", "revert", "delete" };

/* ---- which ones ---- */

struct hook_names {
	vec_of(char *) list;
};

static void hook_names_clear(struct hook_names *names)
{
	for (size_t i = 0; i < names->list.n; i++)
		free(names->list.at[i]);
	vec_free(&names->list);
}

static int check_safe(const struct stat *st, const char *path, struct err *err)
{
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return err_set(err, EPERM, "%s belongs to another user than root: no hook is run "
			       "from there", path);
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		return err_set(err, EPERM, "%s can be written by others than its owner: no hook is "
			       "run from there (chmod go-w)", path);
	return 0;
}

int hooks_check_folder(const char *folder, struct err *err)
{
	struct stat st;

	if (!folder)
		return 0;
	if (stat(folder, &st) < 0)
		return err_sys(err, errno, "the hooks in %s cannot be used", folder);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, ENOTDIR, "the hooks' folder %s is not a directory", folder);
	return check_safe(&st, folder, err);
}

/* "pre-snapshot", "pre-snapshot-10-db", "pre-snapshot.sh"; not "pre-snapshot-db~". */
static bool is_for(const char *name, const char *hook)
{
	size_t n = strlen(hook), length = strlen(name);

	return strncmp(name, hook, n) == 0 && (!name[n] || name[n] == '-' || name[n] == '.') &&
	       name[length - 1] != '~';
}

/* Whether it is a program, and safe to run. */
static int check_file(const char *folder, const char *name, bool *ret, struct err *err)
{
	cleanup_free char *path = xasprintf("%s/%s", folder, name);
	struct stat st;
	int r;

	*ret = false;
	if (stat(path, &st) < 0)
		return err_sys(err, errno, "the hook %s cannot be run", path);
	if (!S_ISREG(st.st_mode) || !(st.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)))
		return 0;
	r = check_safe(&st, path, err);
	*ret = r >= 0;
	return r;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int find(const char *folder, const char *hook, struct hook_names *ret, struct err *err)
{
	struct dirent *entry;
	int r = hooks_check_folder(folder, err);
	cleanup_closedir DIR *dir = r < 0 ? NULL : opendir(folder);

	if (!dir)
		return r < 0 ? r : err_sys(err, errno, "the hooks in %s cannot be used", folder);
	while (r >= 0 && (entry = readdir(dir))) {
		bool runs;

		if (!is_for(entry->d_name, hook))
			continue;
		r = check_file(folder, entry->d_name, &runs, err);
		if (runs)
			vec_push(&ret->list, xstrdup(entry->d_name));
	}
	if (ret->list.n)
		qsort(ret->list.at, ret->list.n, sizeof(char *), by_name);
	return r;
}

/* ---- one of them ---- */

/* What is told to it. */
struct facts {
	const char *hook; /* "pre-snapshot" */
	const char *operation, *snapshot;
	const struct vm *vm;
	bool over; /* the operation is: */
	int r;
	const char *error;
};

struct environment {
	vec_of(char *) list;
};

static void environment_clear(struct environment *env)
{
	for (size_t i = 0; i < env->list.n; i++)
		free(env->list.at[i]);
	vec_free(&env->list);
}

static void put(struct environment *env, const char *name, const char *value)
{
	vec_push(&env->list, xasprintf("%s=%s", name, value));
}

static void make_environment(const struct engine *e, const struct facts *f,
			     struct environment *ret)
{
	put(ret, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	put(ret, "LANG", "C.UTF-8");
	put(ret, "KWS_HOOK", f->hook);
	put(ret, "KWS_OPERATION", f->operation);
	put(ret, "KWS_VM", f->vm->name);
	put(ret, "KWS_VM_UUID", f->vm->uuid);
	put(ret, "KWS_SNAPSHOT", f->snapshot);
	put(ret, "KWS_MOUNTPOINT", e->mountpoint ?: "");
	if (f->over) {
		put(ret, "KWS_RESULT", f->r < 0 ? strerrorname_np(-f->r) ?: "EIO" : "0");
		put(ret, "KWS_ERROR", f->r < 0 ? f->error : "");
	}
	vec_push(&ret->list, NULL);
}

/* Whatever a program said becomes a part of a sentence. */
static char *as_text(const char *said)
{
	size_t length = strlen(said);
	char *text = xstrdup(said);

	for (size_t i = 0; i < length;) {
		uint32_t c = 0;
		size_t n = utf8_next(said + i, length - i, &c);

		if (n == 0 || c < 0x20 || (c >= 0x7f && c < 0xa0))
			memset(text + i, n ? ' ' : '?', n ?: 1);
		i += n ?: 1;
	}
	return text;
}

static int judge(const char *name, int status, const char *said, struct err *err)
{
	cleanup_free char *text = as_text(said[0] ? said : "it does not say why");

	if (WIFSIGNALED(status))
		return err_set(err, ECANCELED, "the hook %s was ended by signal %d: %s", name,
			       WTERMSIG(status), text);
	if (WEXITSTATUS(status) != 0)
		return err_set(err, ECANCELED, "the hook %s failed with exit code %d: %s", name,
			       WEXITSTATUS(status), text);
	return 0;
}

static int run_hook(const struct engine *e, const char *name, const struct facts *f,
		    struct err *err)
{
	cleanup_free char *path = xasprintf("%s/%s", e->hooks, name);
	cleanup(environment_clear) struct environment env = { 0 };
	const char *const argv[] = { path, NULL };
	struct program p;
	int status = 0, r;

	make_environment(e, f, &env);
	if (program_start_with(&p, argv, env.list.at, PROGRAM_APART, err) < 0) {
		err_wrap(err, "the hook %s cannot be run", name);
		if (err)
			err->code = ECANCELED;
		return -ECANCELED;
	}
	r = program_end_within(&p, e->hook_timeout, &status, err);
	if (r < 0) {
		err_wrap(err, "the hook %s failed", name);
		return r;
	}
	return judge(name, status, program_last_line(&p), err);
}

/* ---- all of them ---- */

int hooks_before(struct engine *e, struct slot *s, enum hook_operation operation,
		 const char *snapshot, struct err *err)
{
	cleanup_free char *hook = xasprintf("pre-%s", operation_names[operation]);
	cleanup(hook_names_clear) struct hook_names names = { 0 };
	cleanup(vm_unref_p) struct vm *vm = slot_view(e, s);
	struct facts facts = { .hook = hook, .operation = operation_names[operation],
			       .snapshot = snapshot, .vm = vm };
	struct err mine = ERR_INIT;
	int r;

	if (!e->hooks || !vm)
		return 0;
	r = find(e->hooks, hook, &names, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < names.list.n && r >= 0; i++)
		r = run_hook(e, names.list.at[i], &facts, &mine);
	if (r < 0) {
		hooks_after(e, s, operation, snapshot, r, &mine);
		return err_set(err, -r, "%s", mine.msg);
	}
	return 0;
}

void hooks_after(struct engine *e, struct slot *s, enum hook_operation operation,
		 const char *snapshot, int r, const struct err *err)
{
	cleanup_free char *hook = xasprintf("post-%s", operation_names[operation]);
	cleanup(hook_names_clear) struct hook_names names = { 0 };
	cleanup(vm_unref_p) struct vm *vm = slot_view(e, s);
	struct facts facts = { .hook = hook, .operation = operation_names[operation],
			       .snapshot = snapshot, .vm = vm, .over = true, .r = r,
			       .error = err ? err->msg : "" };
	struct err mine = ERR_INIT;
	int failed;

	if (!e->hooks || !vm)
		return;
	failed = find(e->hooks, hook, &names, &mine);
	if (failed < 0)
		engine_tell(e, s->id, failed, mine.msg);
	for (size_t i = 0; i < names.list.n && failed >= 0; i++) {
		int one = run_hook(e, names.list.at[i], &facts, &mine);

		if (one < 0)
			engine_tell(e, s->id, one, mine.msg);
	}
}
