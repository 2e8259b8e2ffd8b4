/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every step of every operation, failing and dying. A tree with three
 * snapshots and a side branch is made on real images with a fake hypervisor;
 * then each operation is run again and again, and in turn
 *
 *   - each of its steps fails, before it did anything and after;
 *   - the process is killed there;
 *   - each call that changes something at the hypervisor fails.
 *
 * After each, a new engine is opened on what is left, and then: the snapshots
 * are those from before the operation, or those from after it; each of them
 * and the VM's disk read, by qemu-img, as they did; and the folder of the
 * images holds the files that are needed and no other.
 *
 * And at the end: a snapshot whose image is being closed just then is deleted.
 */
#include "engine/core.h"
#include "engine/domain-xml.h"
#include "engine/op.h"
#include "tests/lib/fake-hv.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define UUID "6f1c2a5e-0d0c-4c52-9f0e-4f3f9b7a1c11"

DEFINE_CLEANUP(struct domain_xml, domain_xml_free);

static char *root; /* of one run: images/, hv/, state/ */

__attribute__((format(printf, 1, 2)))
static void sh(const char *fmt, ...)
{
	va_list ap;
	char *command = NULL;

	va_start(ap, fmt);
	assert_true(vasprintf(&command, fmt, ap) > 0);
	va_end(ap);
	if (system(command) != 0)
		fail_msg("failed: %s", command);
	free(command);
}

/* ---- the engine, and waiting for it ---- */

struct world {
	struct engine *e;
	struct hv *hv;
};

struct result {
	pthread_mutex_t lock;
	pthread_cond_t ended;
	bool over;
	int r;
	struct err err;
};

static void on_done(void *opaque, int r, const struct err *err)
{
	struct result *result = opaque;

	pthread_mutex_lock(&result->lock);
	result->r = r;
	result->err = *err;
	result->over = true;
	pthread_cond_signal(&result->ended);
	pthread_mutex_unlock(&result->lock);
}

#define RESULT { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0, ERR_INIT }

static int wait_for(struct result *result)
{
	pthread_mutex_lock(&result->lock);
	while (!result->over)
		pthread_cond_wait(&result->ended, &result->lock);
	pthread_mutex_unlock(&result->lock);
	return result->r;
}

static void world_open(struct world *w)
{
	static const struct engine_observer nobody;
	cleanup_free char *hv = xasprintf("%s/hv", root), *state = xasprintf("%s/state", root);
	struct engine_options opts = { .state_dir = state, .mode = 0700 };
	struct err err = ERR_INIT;

	w->hv = fake_hv_open(hv);
	if (engine_open_on(w->hv, &opts, &nobody, &w->e, &err) < 0)
		fail_msg("the engine does not open: %s", err.msg);
	fake_hv_listen(w->hv, &w->e->hv_events);
}

static int settle(struct world *w)
{
	struct result result = RESULT;
	struct vm *vm = engine_vm_by_name(w->e, "web1");

	assert_non_null(vm);
	engine_wait(w->e, vm->id, on_done, &result);
	vm_unref(vm);
	return wait_for(&result);
}

/* ---- the operations ---- */

typedef void start_fn(struct engine *e, const struct vm *vm, engine_done *done, void *opaque);

static uint32_t id_of(const struct vm *vm, const char *name)
{
	const struct snapshot *s = vm_snapshot_by_name(vm, name);

	assert_non_null(s);
	return s->id;
}

static void start_create(struct engine *e, const struct vm *vm, engine_done *done, void *opaque)
{
	engine_snapshot_create(e, vm->id, "new", done, opaque);
}

static void start_delete_first(struct engine *e, const struct vm *vm, engine_done *done, void *o)
{
	engine_snapshot_delete(e, vm->id, id_of(vm, "s1"), done, o);
}

static void start_delete_fork(struct engine *e, const struct vm *vm, engine_done *done, void *o)
{
	engine_snapshot_delete(e, vm->id, id_of(vm, "s2"), done, o);
}

static void start_delete_leaf(struct engine *e, const struct vm *vm, engine_done *done, void *o)
{
	engine_snapshot_delete(e, vm->id, id_of(vm, "s3"), done, o);
}

static void start_delete_current(struct engine *e, const struct vm *vm, engine_done *done, void *o)
{
	engine_snapshot_delete(e, vm->id, id_of(vm, "side"), done, o);
}

static void start_rename(struct engine *e, const struct vm *vm, engine_done *done, void *opaque)
{
	engine_snapshot_rename(e, vm->id, id_of(vm, "s2"), "renamed", done, opaque);
}

static void start_rename_current(struct engine *e, const struct vm *vm, engine_done *done, void *o)
{
	engine_snapshot_rename(e, vm->id, id_of(vm, "side"), "renamed", done, o);
}

static void start_revert(struct engine *e, const struct vm *vm, engine_done *done, void *opaque)
{
	engine_snapshot_revert(e, vm->id, id_of(vm, "s1"), 0, done, opaque);
}

/* The group that make_tree makes. */
static uint32_t the_group(struct engine *e)
{
	struct group_list *list = engine_groups(e);
	uint32_t id;

	assert_int_equal(list->n, 1);
	id = list->groups[0].id;
	group_list_unref(list);
	return id;
}

static void start_group_create(struct engine *e, const struct vm *vm, engine_done *done, void *o)
{
	engine_group_snapshot_create(e, the_group(e), "new", done, o);
}

static void start_describe(struct engine *e, const struct vm *vm, engine_done *done, void *opaque)
{
	engine_set_description(e, vm->id, id_of(vm, "s1"), "as it was", done, opaque);
}

static void start_features(struct engine *e, const struct vm *vm, engine_done *done, void *opaque)
{
	engine_set_features(e, vm->id, "language Node.JS\ndatabase MySQL\n", done, opaque);
}

static void start_no_features(struct engine *e, const struct vm *vm, engine_done *done, void *o)
{
	engine_set_features(e, vm->id, "\n", done, o);
}

static const struct operation {
	const char *name;
	start_fn *start;
} operations[] = {
	{ "create", start_create },
	{ "delete the first", start_delete_first },
	{ "delete a fork", start_delete_fork },
	{ "delete a leaf", start_delete_leaf },
	{ "delete the current", start_delete_current },
	{ "rename", start_rename },
	{ "rename the current", start_rename_current },
	{ "revert", start_revert },
	{ "describe", start_describe },
	{ "create of a group", start_group_create },
	{ "features", start_features },
	{ "no features", start_no_features },
};

static int run_operation(struct world *w, start_fn *start)
{
	struct result result = RESULT;
	struct vm *vm = engine_vm_by_name(w->e, "web1");
	int r;

	assert_non_null(vm);
	start(w->e, vm, on_done, &result);
	r = wait_for(&result);
	vm_unref(vm);
	return r;
}

/* ---- the tree, made once and copied for each run ---- */

static void write_disk(struct world *w, unsigned pattern)
{
	cleanup_free char *xml = NULL;
	cleanup(domain_xml_free_p) struct domain_xml *d = NULL;

	assert_int_equal(w->hv->ops->domain_xml(w->hv, UUID, true, &xml, NULL), 0);
	assert_int_equal(domain_xml_parse(xml, &d, NULL), 0);
	for (size_t i = 0; i < d->n_disks; i++)
		sh("qemu-io -f %s -c 'write -P %u %uk 96k' %s >/dev/null", d->disks[i].format,
		   pattern, pattern * 32, d->disks[i].path);
}

static void take(struct world *w, const char *name)
{
	struct result result = RESULT;
	struct vm *vm = engine_vm_by_name(w->e, "web1");

	engine_snapshot_create(w->e, vm->id, name, on_done, &result);
	if (wait_for(&result) < 0)
		fail_msg("no snapshot: %s", result.err.msg);
	vm_unref(vm);
}

static void go_back(struct world *w, const char *name)
{
	struct result result = RESULT;
	struct vm *vm = engine_vm_by_name(w->e, "web1");

	engine_snapshot_revert(w->e, vm->id, id_of(vm, name), 0, on_done, &result);
	if (wait_for(&result) < 0)
		fail_msg("no revert: %s", result.err.msg);
	vm_unref(vm);
}

static void make_group(struct world *w)
{
	struct result made = RESULT, added = RESULT;
	struct vm *vm = engine_vm_by_name(w->e, "web1");

	engine_group_make(w->e, "shop", on_done, &made);
	assert_int_equal(wait_for(&made), 0);
	engine_group_add(w->e, the_group(w->e), "web1", vm->id, on_done, &added);
	assert_int_equal(wait_for(&added), 0);
	vm_unref(vm);
}

static void describe(struct world *w)
{
	struct result result = RESULT;
	struct vm *vm = engine_vm_by_name(w->e, "web1");

	engine_set_features(w->e, vm->id, "os Ubuntu 20.04\n", on_done, &result);
	assert_int_equal(wait_for(&result), 0);
	vm_unref(vm);
}

static void define_domain(void)
{
	cleanup_free char *path = xasprintf("%s/hv/" UUID "/config.xml", root);
	FILE *f;

	sh("mkdir -p %s/hv/" UUID "/snapshots %s/images %s/state", root, root, root);
	sh("qemu-img create -q -f qcow2 %s/images/vda.qcow2 1M", root);
	sh("qemu-img create -q -f raw %s/images/vdb.raw 1M", root);
	f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f, "<domain type='qemu'><name>web1</name><uuid>" UUID "</uuid><devices>"
		"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
		"<source file='%s/images/vda.qcow2'/><target dev='vda' bus='virtio'/></disk>"
		"<disk type='file' device='disk'><driver name='qemu' type='raw'/>"
		"<source file='%s/images/vdb.raw'/><target dev='vdb' bus='virtio'/></disk>"
		"</devices></domain>", root, root);
	fclose(f);
}

/* s1 - s2 - s3
 *        \ side - (the VM) */
static void make_tree(void)
{
	struct world w;

	define_domain();
	world_open(&w);
	describe(&w);
	write_disk(&w, 1);
	take(&w, "s1");
	write_disk(&w, 2);
	take(&w, "s2");
	write_disk(&w, 3);
	take(&w, "s3");
	write_disk(&w, 4);
	go_back(&w, "s2");
	write_disk(&w, 5);
	take(&w, "side");
	write_disk(&w, 6);
	make_group(&w);
	assert_int_equal(settle(&w), 0);
	engine_close(w.e);
}

/* ---- what the tree is ---- */

struct facts {
	char *tree;    /* names and parents, and the current one; the VM's features */
	char *digests; /* of each snapshot's disks and of the VM's: "name/target digest" */
};

static void facts_clear(struct facts *f)
{
	free(f->tree);
	free(f->digests);
}

static char *digest(const char *path, const char *format)
{
	cleanup_free char *command = xasprintf("qemu-img convert -f %s -O raw %s %s/flat && "
					       "sha256sum < %s/flat", format, path, root, root);
	char line[128] = "";
	FILE *p = popen(command, "r");

	assert_non_null(p);
	assert_non_null(fgets(line, sizeof(line), p));
	assert_int_equal(pclose(p), 0);
	line[64] = '\0';
	return xstrdup(line);
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct snapshot *const *)a)->name,
		      (*(const struct snapshot *const *)b)->name);
}

static void collect_facts(struct world *w, struct facts *ret)
{
	struct vm *vm = engine_vm_by_name(w->e, "web1");
	cleanup_free const struct snapshot **sorted = xcalloc(vm->n_snapshots, sizeof(*sorted));
	cleanup_free char *xml = NULL;
	cleanup(domain_xml_free_p) struct domain_xml *d = NULL;
	size_t tree_size, digests_size;
	FILE *tree = open_memstream(&ret->tree, &tree_size);
	FILE *digests = open_memstream(&ret->digests, &digests_size);

	for (size_t i = 0; i < vm->n_snapshots; i++)
		sorted[i] = &vm->snapshots[i];
	qsort(sorted, vm->n_snapshots, sizeof(*sorted), by_name);
	for (size_t i = 0; i < vm->n_snapshots; i++) {
		const struct snapshot *s = sorted[i], *parent = vm_snapshot(vm, s->parent);

		fprintf(tree, "%s on %s%s '%s'\n", s->name, parent ? parent->name : "-",
			vm->current == s->id ? ", current" : "", s->description);
		assert_int_equal(s->n_disks, 2);
		for (size_t n = 0; n < s->n_disks; n++) {
			cleanup_free char *sum = digest(s->disks[n].path, s->disks[n].format);

			fprintf(digests, "%s/%s %s\n", s->name, s->disks[n].target, sum);
		}
	}
	for (size_t i = 0; i < vm->features.n; i++)
		fprintf(tree, "%s %s\n", vm->features.features[i].category,
			vm->features.features[i].value);
	assert_int_equal(w->hv->ops->domain_xml(w->hv, UUID, true, &xml, NULL), 0);
	assert_int_equal(domain_xml_parse(xml, &d, NULL), 0);
	for (size_t i = 0; i < d->n_disks; i++) {
		cleanup_free char *sum = digest(d->disks[i].path, d->disks[i].format);

		fprintf(digests, "the VM/%s %s\n", d->disks[i].target, sum);
	}
	fclose(tree);
	fclose(digests);
	vm_unref(vm);
}

/* Every file in images/ is in the chain of a snapshot or of the VM. */
static void check_files(struct world *w)
{
	cleanup_free char *needed = NULL, *xml = NULL, *folder = xasprintf("%s/images", root);
	cleanup(domain_xml_free_p) struct domain_xml *d = NULL;
	struct vm *vm = engine_vm_by_name(w->e, "web1");
	cleanup_free char *list = xasprintf("%s/needed", root);
	struct dirent *entry;
	DIR *dir;

	sh(": > %s", list);
	for (size_t i = 0; i < vm->n_snapshots; i++)
		for (size_t n = 0; n < vm->snapshots[i].n_disks; n++)
			sh("qemu-img info --backing-chain -f %s %s >> %s",
			   vm->snapshots[i].disks[n].format, vm->snapshots[i].disks[n].path, list);
	vm_unref(vm);
	assert_int_equal(w->hv->ops->domain_xml(w->hv, UUID, true, &xml, NULL), 0);
	assert_int_equal(domain_xml_parse(xml, &d, NULL), 0);
	for (size_t i = 0; i < d->n_disks; i++)
		sh("qemu-img info --backing-chain -f %s %s >> %s", d->disks[i].format,
		   d->disks[i].path, list);
	dir = opendir(folder);
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			sh("grep -q '^image: .*/%s$' %s || { echo left over: %s; false; }",
			   entry->d_name, list, entry->d_name);
	closedir(dir);
}

/* ---- one run ---- */

enum how { NO_FAULT, STEP_FAILS, STEP_DIES, CALL_FAILS };

static struct fault {
	enum how how;
	int countdown;
	bool after;
} fault;

static int on_step(const char *kind, const char *step, bool after)
{
	if (fault.how != STEP_FAILS && fault.how != STEP_DIES)
		return 0;
	if (after != fault.after || --fault.countdown != 0)
		return 0;
	if (fault.how == STEP_DIES)
		_exit(77);
	return -EIO;
}

/* The operation with the fault, in a process of its own that may die. Returns
 * whether the fault was reached. */
static bool run_with_fault(start_fn *start)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		struct world w;
		bool reached;

		world_open(&w);
		op_fault = on_step;
		if (fault.how == CALL_FAILS)
			fake_hv_fail(w.hv, fault.countdown, -EIO, fault.after);
		run_operation(&w, start);
		settle(&w);
		reached = fault.how == CALL_FAILS ? fake_hv_calls(w.hv) >= fault.countdown
						  : fault.countdown <= 0;
		op_fault = NULL;
		engine_close(w.e);
		_exit(reached ? 77 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_true(WEXITSTATUS(status) == 77 || WEXITSTATUS(status) == 0);
	return WEXITSTATUS(status) == 77;
}

/* Lines of `part` that are about snapshots in both must be the same. */
static void check_digests(const struct facts *now, const struct facts *before,
			  const struct facts *after)
{
	cleanup_free char *copy = xstrdup(now->digests);

	for (char *save = NULL, *line = strtok_r(copy, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save))
		if (!strstr(before->digests, line) && !strstr(after->digests, line))
			fail_msg("reads otherwise than before and after: %s", line);
}

static void copy_tree(const char *template)
{
	sh("rm -rf %s/images %s/hv %s/state && cp -a %s/. %s/", root, root, root, template, root);
}

/* It says that it has a snapshot if its VM has it. */
static void check_group(struct world *w)
{
	struct group_list *list = engine_groups(w->e);
	struct vm *vm = engine_vm_by_name(w->e, "web1");
	const struct vm_group *g = &list->groups[0];

	for (size_t i = 0; i < g->n_snapshots; i++) {
		assert_int_equal(g->snapshots[i].n_parts, 1);
		assert_non_null(vm_snapshot(vm, g->snapshots[i].parts[0].snapshot));
	}
	vm_unref(vm);
	group_list_unref(list);
}

static void check_run(const struct operation *o, const struct facts *before,
		      const struct facts *after)
{
	cleanup(facts_clear) struct facts now = { 0 };
	struct world w;

	world_open(&w);
	if (settle(&w) < 0)
		fail_msg("%s: the next process cannot settle it", o->name);
	collect_facts(&w, &now);
	check_group(&w);
	if (!streq(now.tree, before->tree) && !streq(now.tree, after->tree))
		fail_msg("%s: neither before nor after:\n%s", o->name, now.tree);
	check_digests(&now, before, after);
	check_files(&w);
	engine_close(w.e);
}

static void run_all_faults(const struct operation *o, const char *template,
			   const struct facts *before, const struct facts *after)
{
	static const char *const names[] = { "", "step fails", "killed at step", "call fails" };
	int runs = 0;

	for (enum how how = STEP_FAILS; how <= CALL_FAILS; how++) {
		for (int n = 1, reached = 1; reached; n++) {
			reached = 0;
			for (int late = 0; late <= 1; late++) {
				copy_tree(template);
				fault = (struct fault){ how, n, late };
				if (getenv("VERBOSE"))
					print_message("%s: %s %d %s\n", o->name, names[how], n,
						      late ? "after" : "before");
				if (run_with_fault(o->start))
					reached = 1;
				check_run(o, before, after);
				runs++;
			}
			if (reached)
				print_message("%-20s %-15s %2d: whole\n", o->name, names[how], n);
		}
	}
	assert_true(runs > 6);
}

static void test_operation(void **state)
{
	const struct operation *o = *state;
	cleanup(facts_clear) struct facts before = { 0 }, after = { 0 };
	cleanup_free char *template = xasprintf("%s/template", root);
	struct world w;

	copy_tree(template);
	world_open(&w);
	collect_facts(&w, &before);
	if (run_operation(&w, o->start) < 0)
		fail_msg("%s fails without a fault", o->name);
	assert_int_equal(settle(&w), 0);
	collect_facts(&w, &after);
	check_files(&w);
	engine_close(w.e);
	assert_string_not_equal(before.tree, after.tree);

	run_all_faults(o, template, &before, &after);
}

/* ---- an image that is open ---- */

struct closing {
	struct engine *e;
	struct disk_file *file;
};

static void *close_late(void *closing)
{
	struct closing *c = closing;
	struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 };

	nanosleep(&pause, NULL);
	engine_disk_close(c->e, c->file);
	return NULL;
}

/* The kernel tells of a close() late: an rmdir may have begun. Who reads on is in its way. */
static void test_open_image(void **state)
{
	cleanup_free char *template = xasprintf("%s/template", root);
	struct closing c = { 0 };
	struct disk_id id = { .shape = SHAPE_RAW };
	struct err err = ERR_INIT;
	pthread_t thread;
	struct world w;
	struct vm *vm;

	(void)state;
	copy_tree(template);
	world_open(&w);
	vm = engine_vm_by_name(w.e, "web1");
	id.vm = vm->id;
	id.snapshot = id_of(vm, "s1");
	vm_unref(vm);
	c.e = w.e;
	if (engine_disk_open(w.e, &id, &c.file, &err) < 0)
		fail_msg("the image does not open: %s", err.msg);
	assert_int_equal(run_operation(&w, start_delete_first), -EBUSY);
	assert_int_equal(pthread_create(&thread, NULL, close_late, &c), 0);
	assert_int_equal(run_operation(&w, start_delete_first), 0);
	pthread_join(thread, NULL);
	assert_int_equal(settle(&w), 0);
	engine_close(w.e);
}

int main(void)
{
	struct CMUnitTest tests[sizeof(operations) / sizeof(operations[0]) + 1];
	char template[] = "/tmp/kwsfs-test-steps-XXXXXX";
	size_t n = sizeof(operations) / sizeof(operations[0]);
	int failed;

	root = mkdtemp(template);
	if (!root)
		return 99;
	make_tree();
	sh("mkdir %s/template && mv %s/images %s/hv %s/state %s/template/", root, root, root, root,
	   root);
	for (size_t i = 0; i < n; i++)
		tests[i] = (struct CMUnitTest){ operations[i].name, test_operation, NULL, NULL,
						(void *)&operations[i] };
	tests[n] = (struct CMUnitTest){ "an open image", test_open_image, NULL, NULL, NULL };
	failed = _cmocka_run_group_tests("steps", tests, n + 1, NULL, NULL);
	sh("rm -rf %s", root);
	return failed;
}
