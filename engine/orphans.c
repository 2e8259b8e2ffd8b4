/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Orphans: images in our naming that no disk of any domain, no snapshot of any domain,
 * no open operation and no tombstone needs. Crashes leave them, a registry that was
 * lost (tombstones that lie in no chain), and VMs that were undefined.
 *
 * They are looked for where layers lie: in the folders of everything that libvirt
 * names, in the store, and in those that the registry remembers of VMs that are gone.
 * Which folders these are is known only after looking, and yet an image must be seen
 * before who needs it: one that is made and taken into use in between would have no
 * owner. So the folders are those of the last look, and if there are more now it is
 * looked again.
 *
 * That nobody needs an image is no reason to delete it: a person does that (rm), one by
 * one, and everything is proved anew then. What can't be read could lie on any image:
 * as long as there is such a layer nothing is deleted but that layer itself.
 */
#include "engine/orphans.h"

#include "engine/domain-xml.h"
#include "engine/overlay.h"
#include "engine/own-mount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

DEFINE_CLEANUP(struct domain_xml, domain_xml_free);
DEFINE_CLEANUP(struct snapshot_xml, snapshot_xml_free);
DEFINE_CLEANUP(struct orphan_list, orphan_list_unref);

/* ---- lists ---- */

void orphan_list_unref(struct orphan_list *list)
{
	if (!list || __atomic_sub_fetch(&list->refs, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	for (size_t i = 0; i < list->n; i++) {
		free(list->orphans[i].name);
		free(list->orphans[i].path);
	}
	free(list->orphans);
	free(list);
}

struct orphan_list *engine_orphans(struct engine *e)
{
	LOCK_SCOPE(&e->lock);

	__atomic_add_fetch(&e->house.orphans->refs, 1, __ATOMIC_RELAXED);
	return e->house.orphans;
}

static const struct orphan *find_orphan(const struct orphan_list *list, uint64_t id)
{
	for (size_t i = 0; i < list->n; i++)
		if (list->orphans[i].id == id)
			return &list->orphans[i];
	return NULL;
}

static bool same_orphans(const struct orphan_list *a, const struct orphan_list *b)
{
	bool same = a->n == b->n;

	for (size_t i = 0; i < a->n && same; i++)
		same = a->orphans[i].id == b->orphans[i].id &&
		       streq(a->orphans[i].name, b->orphans[i].name) &&
		       a->orphans[i].size == b->orphans[i].size;
	return same;
}

/* Takes the list over. */
static void publish(struct engine *e, struct orphan_list *list)
{
	struct orphan_list *old;

	pthread_mutex_lock(&e->lock);
	old = e->house.orphans;
	list->changed = old->changed;
	if (!same_orphans(old, list))
		clock_gettime(CLOCK_REALTIME, &list->changed);
	e->house.orphans = list;
	pthread_mutex_unlock(&e->lock);
	orphan_list_unref(old);
}

/* ---- who is there, and who was ---- */

/* A VM that libvirt or the registry knows. */
struct known {
	uint32_t id; /* in the registry, 0 if it has none */
	char uuid[37];
	char *name;  /* NULL if nobody knows it any more */
	bool there;  /* libvirt has it */
	bool saved;
};

typedef vec_of(struct known) known_t;

static void known_clear(known_t *k)
{
	for (size_t i = 0; i < k->n; i++)
		free(k->at[i].name);
	vec_free(k);
}

static struct known *known_of(known_t *k, const char *uuid)
{
	for (size_t i = 0; i < k->n; i++)
		if (streq(k->at[i].uuid, uuid))
			return &k->at[i];
	return NULL;
}

/* Without the names of those that are gone. */
static int know_vms(struct engine *e, known_t *ret, struct err *err)
{
	cleanup_free struct registry_vm_seen *seen = NULL;
	struct hv_domain *domains = NULL;
	size_t n = 0, n_seen = 0;
	int r = e->hv->ops->list(e->hv, &domains, &n, err);

	for (size_t i = 0; i < n; i++) {
		struct known *k = vec_add(ret);

		memcpy(k->uuid, domains[i].uuid, sizeof(k->uuid));
		k->name = steal_pointer(&domains[i].name);
		k->there = true;
		k->saved = domains[i].saved;
	}
	hv_domains_free(domains, n);
	if (r >= 0)
		r = registry_vms(e->registry, &seen, &n_seen, err);
	for (size_t i = 0; i < n_seen && r >= 0; i++) {
		struct known *k = known_of(ret, seen[i].uuid);

		if (!k) {
			k = vec_add(ret);
			memcpy(k->uuid, seen[i].uuid, sizeof(k->uuid));
		}
		k->id = seen[i].id;
	}
	return r;
}

/* ---- folders ---- */

static void add_folder(struct engine *e, const char *folder)
{
	if (own_mount_has(folder))
		return; /* a VM may have had its disk on an image in there */
	for (size_t i = 0; i < e->folders.n; i++)
		if (streq(e->folders.at[i], folder))
			return;
	vec_push(&e->folders, xstrdup(folder));
}

static void add_folder_of(struct engine *e, const char *path)
{
	const char *slash = path ? strrchr(path, '/') : NULL;
	cleanup_free char *folder = NULL;

	if (!slash || slash == path)
		return;
	folder = xasprintf("%.*s", (int)(slash - path), path);
	add_folder(e, folder);
}

static void closedir_p(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

/* Each VM has one of its own in it. */
static void add_store(struct engine *e)
{
	cleanup(closedir_p) DIR *dir = e->store ? opendir(e->store) : NULL;
	struct dirent *entry;

	if (!dir)
		return;
	add_folder(e, e->store);
	while ((entry = readdir(dir))) {
		cleanup_free char *folder = xasprintf("%s/%s", e->store, entry->d_name);
		struct stat st;

		if (entry->d_name[0] != '.' && lstat(folder, &st) == 0 && S_ISDIR(st.st_mode))
			add_folder(e, folder);
	}
}

static void add_folders_of_snapshot(struct engine *e, struct known *vm, const char *xml)
{
	cleanup(snapshot_xml_free_p) struct snapshot_xml *x = NULL;
	cleanup(domain_xml_free_p) struct domain_xml *domain = NULL;
	cleanup_free char *text = NULL;

	if (snapshot_xml_parse(xml, &x, NULL) < 0)
		return;
	for (size_t i = 0; i < x->n_disks; i++) {
		add_folder_of(e, x->disks[i].frozen);
		add_folder_of(e, x->disks[i].overlay);
	}
	if (!vm->name && snapshot_xml_domain(xml, &text, NULL) >= 0 &&
	    domain_xml_parse(text, &domain, NULL) >= 0)
		vm->name = steal_pointer(&domain->name);
}

/* What the registry remembers of a VM that is gone; also its name. */
static int add_folders_of_gone(struct engine *e, struct known *vm, struct err *err)
{
	struct registry_snapshot *rows = NULL;
	size_t n = 0;
	int r = registry_snapshots(e->registry, vm->id, &rows, &n, err);

	for (size_t i = 0; i < n && r >= 0; i++) {
		cleanup_free char *xml = NULL;

		r = registry_snapshot_xml(e->registry, rows[i].id, &xml, err);
		if (r >= 0)
			add_folders_of_snapshot(e, vm, xml);
	}
	registry_snapshots_free(rows, n);
	return r;
}

static int add_folders_of_registry(struct engine *e, known_t *vms, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < vms->n && r >= 0; i++) {
		struct tombstone *graves = NULL;
		size_t n = 0;

		if (!vms->at[i].id)
			continue;
		r = registry_tombstones(e->registry, vms->at[i].id, &graves, &n, err);
		for (size_t g = 0; g < n; g++)
			add_folder_of(e, graves[g].file.path);
		tombstones_free(graves, n);
		if (r >= 0 && !vms->at[i].there)
			r = add_folders_of_gone(e, &vms->at[i], err);
	}
	return r;
}

/* ---- who needs what ---- */

void evidence_clear(struct evidence *ev)
{
	for (size_t i = 0; i < ev->plans.n; i++)
		plan_free(ev->plans.at[i]);
	vec_free(&ev->plans);
	layers_clear(&ev->layers);
	for (size_t i = 0; i < ev->graves.n; i++) {
		free(ev->graves.at[i].target);
		layer_file_clear(&ev->graves.at[i].file);
	}
	vec_free(&ev->graves);
}

static int add_plans(struct engine *e, struct evidence *ev, struct err *err)
{
	struct journal_op *ops = NULL;
	size_t n = 0;
	int r = journal_open_ops(e->registry, 0, &ops, &n, err);

	for (size_t i = 0; i < n && r >= 0; i++) {
		struct plan *plan;

		r = plan_from_json(ops[i].plan, &plan, err);
		if (r >= 0)
			vec_push(&ev->plans, plan);
	}
	journal_ops_free(ops, n);
	return r;
}

static int add_graves(struct engine *e, struct evidence *ev, struct err *err)
{
	cleanup(known_clear) known_t vms = { 0 };
	int r = know_vms(e, &vms, err);

	for (size_t i = 0; i < vms.n && r >= 0; i++) {
		struct tombstone *graves = NULL;
		size_t n = 0;

		if (!vms.at[i].there || !vms.at[i].id)
			continue;
		r = registry_tombstones(e->registry, vms.at[i].id, &graves, &n, err);
		for (size_t g = 0; g < n; g++)
			vec_push(&ev->graves, graves[g]);
		free(graves);
	}
	return r;
}

int evidence_gather(struct engine *e, struct evidence *ret, struct err *err)
{
	struct evidence ev = { 0 };
	int r = add_plans(e, &ev, err);

	if (r >= 0)
		r = layers_build_all(e, e->folders.at, e->folders.n, &ev.layers, err);
	/* An operation that has begun since, and perhaps ended. */
	if (r >= 0)
		r = add_plans(e, &ev, err);
	if (r >= 0)
		r = add_graves(e, &ev, err);
	if (r < 0) {
		evidence_clear(&ev);
		return r;
	}
	*ret = ev;
	return 0;
}

static bool is_file(const struct layer_file *a, const struct layer_file *b)
{
	/* Of a file that an operation is about to make only the name is known. */
	return a->path && (streq(a->path, b->path) || layer_file_same(a, b));
}

static bool plan_needs(const struct plan *plan, const struct layer_file *file)
{
	for (size_t i = 0; i < plan->n_disks; i++)
		if (is_file(&plan->disks[i].below, file) || is_file(&plan->disks[i].overlay, file) ||
		    is_file(&plan->disks[i].left, file))
			return true;
	return false;
}

const char *evidence_for(const struct evidence *ev, const struct layer_file *file)
{
	size_t i = layers_find(&ev->layers, file);

	if (i != NO_LAYER && ev->layers.all.at[i].top)
		return "a VM has it as its disk";
	if (i != NO_LAYER && ev->layers.all.at[i].frozen)
		return "a snapshot is made of it";
	if (i != NO_LAYER && ev->layers.all.at[i].reached)
		return "a VM or a snapshot needs it";
	for (size_t p = 0; p < ev->plans.n; p++)
		if (plan_needs(ev->plans.at[p], file))
			return "an operation that has not ended needs it";
	for (size_t g = 0; g < ev->graves.n; g++)
		if (is_file(&ev->graves.at[g].file, file))
			return "it is the layer of a deleted snapshot, and goes by itself";
	return NULL;
}

/* ---- images in our naming ---- */

/* An image that may be an orphan. */
struct candidate {
	struct overlay_name name;
	struct layer_file file;
	struct stat st;
};

typedef vec_of(struct candidate) candidates_t;

static void candidates_clear(candidates_t *c)
{
	for (size_t i = 0; i < c->n; i++)
		layer_file_clear(&c->at[i].file);
	vec_free(c);
}

static void add_candidate(candidates_t *to, const char *folder, const char *name)
{
	struct candidate c = { 0 };

	if (!overlay_name_parse(name, &c.name))
		return;
	c.file.path = xasprintf("%s/%s", folder, name);
	if (lstat(c.file.path, &c.st) < 0 || !S_ISREG(c.st.st_mode)) {
		layer_file_clear(&c.file);
		return;
	}
	c.file.format = xstrdup("qcow2");
	c.file.dev = c.st.st_dev;
	c.file.ino = c.st.st_ino;
	/* One folder may have two names. */
	for (size_t i = 0; i < to->n; i++) {
		if (layer_file_same(&to->at[i].file, &c.file)) {
			layer_file_clear(&c.file);
			return;
		}
	}
	vec_push(to, c);
}

static int scan_folders(const struct engine *e, candidates_t *to, struct err *err)
{
	for (size_t i = 0; i < e->folders.n; i++) {
		cleanup(closedir_p) DIR *dir = opendir(e->folders.at[i]);
		struct dirent *entry;

		if (!dir && errno != ENOENT)
			return err_sys(err, errno, "cannot list %s", e->folders.at[i]);
		while (dir && (entry = readdir(dir)))
			add_candidate(to, e->folders.at[i], entry->d_name);
	}
	return 0;
}

/* ---- names ---- */

/* The one VM whose UUID begins so, NULL if there is none, or more than one. */
static const struct known *whose(const known_t *vms, const char *beginning)
{
	const struct known *found = NULL;

	for (size_t i = 0; i < vms->n; i++) {
		if (strncmp(vms->at[i].uuid, beginning, strlen(beginning)) != 0)
			continue;
		if (found)
			return NULL;
		found = &vms->at[i];
	}
	return found;
}

#define VM_NAME_MAX 150 /* that the rest of the name has room behind it */

/* The VM's name, else its UUID, else what is left of that in the file's name. */
static const char *owner_of(const known_t *vms, const struct overlay_name *name)
{
	const struct known *vm = whose(vms, name->vm);

	if (!vm)
		return name->vm;
	return vm->name && vm->name[0] != '.' && strlen(vm->name) <= VM_NAME_MAX ? vm->name :
										   vm->uuid;
}

static char *orphan_name(const known_t *vms, const struct candidate *c)
{
	char moment[32];
	struct tm tm;

	strftime(moment, sizeof(moment), "%Y-%m-%dT%H%M%SZ", gmtime_r(&c->st.st_mtim.tv_sec, &tm));
	return xasprintf("%s-%s-%s-%s.qcow2", owner_of(vms, &c->name), c->name.target, moment,
			 c->name.id);
}

/* FNV-1a */
static uint64_t hash(uint64_t h, const void *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		h = (h ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3ULL;
	return h;
}

/* Of the file, whatever it is called today, and of no other: a number of an inode comes
 * back, but not together with a name out of random digits. */
static uint64_t orphan_id(const struct candidate *c)
{
	uint64_t id = hash(0xcbf29ce484222325ULL, &c->file.dev, sizeof(c->file.dev));

	id = hash(id, &c->file.ino, sizeof(c->file.ino));
	id = hash(id, c->name.id, sizeof(c->name.id));
	id = hash(id, c->name.target, strlen(c->name.target));
	return id & ORPHAN_ID_MAX;
}

static int by_name(const void *a, const void *b)
{
	const struct orphan *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : x->ino < y->ino ? -1 : x->ino > y->ino;
}

/* A copy has everything of the original but its inode. */
static void tell_copies_apart(struct orphan_list *list)
{
	qsort(list->orphans, list->n, sizeof(*list->orphans), by_name);
	for (size_t i = 0, end; i < list->n; i = end) {
		for (end = i + 1; end < list->n; end++)
			if (!streq(list->orphans[i].name, list->orphans[end].name))
				break;
		for (size_t c = i; c < end && end - i > 1; c++) {
			char *longer = xasprintf("%s.%llu", list->orphans[c].name,
						 (unsigned long long)list->orphans[c].ino);

			free(list->orphans[c].name);
			list->orphans[c].name = longer;
		}
	}
}

static void add_orphan(struct orphan_list *list, const known_t *vms, const struct candidate *c)
{
	uint64_t id = orphan_id(c);

	if (find_orphan(list, id))
		return;
	list->orphans[list->n++] = (struct orphan){
		.id = id, .name = orphan_name(vms, c), .path = xstrdup(c->file.path),
		.dev = c->file.dev, .ino = c->file.ino, .size = c->st.st_size,
		.allocated = (uint64_t)c->st.st_blocks * 512, .changed = c->st.st_mtim,
	};
}

/* ---- looking ---- */

/* One look at the folders that are known. */
static int look_once(struct engine *e, struct orphan_list **ret, struct err *err)
{
	cleanup(candidates_clear) candidates_t candidates = { 0 };
	cleanup(evidence_clear) struct evidence ev = { 0 };
	cleanup(known_clear) known_t vms = { 0 };
	struct orphan_list *list;
	int r = know_vms(e, &vms, err);

	if (r >= 0)
		r = add_folders_of_registry(e, &vms, err);
	if (r < 0)
		return r;
	add_store(e);
	r = scan_folders(e, &candidates, err);
	if (r >= 0)
		r = evidence_gather(e, &ev, err);
	if (r < 0)
		return r;
	list = xnew(struct orphan_list);
	list->refs = 1;
	list->orphans = xcalloc(candidates.n, sizeof(*list->orphans));
	for (size_t i = 0; i < candidates.n; i++)
		if (!evidence_for(&ev, &candidates.at[i].file))
			add_orphan(list, &vms, &candidates.at[i]);
	tell_copies_apart(list);
	for (size_t i = 0; i < ev.layers.all.n; i++)
		add_folder_of(e, ev.layers.all.at[i].file.path);
	*ret = list;
	return 0;
}

int orphans_find(struct engine *e, struct orphan_list **ret, struct err *err)
{
	struct orphan_list *list = NULL;
	size_t before;
	int r;

	do {
		before = e->folders.n;
		orphan_list_unref(list);
		list = NULL;
		r = look_once(e, &list, err);
	} while (r >= 0 && e->folders.n > before);
	if (r < 0) {
		orphan_list_unref(list);
		return r;
	}
	*ret = list;
	return 0;
}

static void set_last_error(struct engine *e, const char *msg)
{
	LOCK_SCOPE(&e->lock);

	free(e->house.last_error);
	e->house.last_error = xstrdup(msg);
}

void orphans_look(struct engine *e)
{
	struct orphan_list *list;
	struct err err = ERR_INIT;
	int r = e->hv->ops->connected(e->hv) ? orphans_find(e, &list, &err) : -EHOSTDOWN;

	if (r >= 0)
		publish(e, list);
	else if (r != -EHOSTDOWN)
		set_last_error(e, err.msg);
}

void engine_orphans_refresh(struct engine *e, unsigned max_age_ms)
{
	LOCK_SCOPE(&e->lock);

	if (!e->connected || (max_age_ms && is_younger(&e->house.looked, max_age_ms)))
		return;
	e->house.orphans_refresh.wanted = true;
	pthread_cond_signal(&e->house.wake);
	refresh_wait(e, &e->house.orphans_refresh);
}

char *engine_orphans_last_error(struct engine *e)
{
	LOCK_SCOPE(&e->lock);

	return xstrdup(e->house.last_error ?: "");
}

/* ---- reading ---- */

int engine_orphan_open(const struct orphan *o, int *ret_fd, struct err *err)
{
	cleanup_close int fd = open(o->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(err, errno, "cannot open %s", o->path);
	if (st.st_dev != o->dev || st.st_ino != o->ino)
		return err_set(err, ESTALE, "%s is another file by now", o->path);
	*ret_fd = steal_fd(&fd);
	return 0;
}

/* ---- deleting ---- */

/* An image on it that nobody needs either: that has to go first. And what can't be read
 * may lie on it. */
static int check_overlays(const struct layers *l, const struct layer_file *file, struct err *err)
{
	size_t own = layers_find(l, file);

	for (size_t i = 0; i < l->all.n; i++) {
		const struct layer *layer = &l->all.at[i];

		if (own != NO_LAYER && layer->backing == own)
			return err_set(err, EBUSY, "%s lies on it: delete that first",
				       layer->file.path);
		if (layer->unreadable && i != own)
			return err_set(err, EBUSY, "%s cannot be read, and may lie on it",
				       layer->file.path);
	}
	return 0;
}

static int check_saved(struct engine *e, const struct orphan *o, struct err *err)
{
	cleanup(known_clear) known_t vms = { 0 };
	struct overlay_name name;
	int r = know_vms(e, &vms, err);

	for (size_t i = 0; i < vms.n && r >= 0 && overlay_name_parse(o->path, &name); i++)
		if (vms.at[i].saved && strncmp(vms.at[i].uuid, name.vm, strlen(name.vm)) == 0)
			r = err_set(err, EBUSY, "%s is saved with its memory, which may know it: "
				    "start the VM first, or virsh managedsave-remove",
				    vms.at[i].name);
	return r;
}

/* A VM may have its disk on the file in lost+found: QEMU's locks are there, then. */
static int check_tenants(struct engine *e, const struct orphan *o, struct err *err)
{
	cleanup_free char *inside = xasprintf("lost+found/%s", o->name);
	LOCK_SCOPE(&e->lock);

	for (size_t i = 0; i < e->slots.n; i++) {
		const struct slot *s = e->slots.at[i];

		for (size_t f = 0; s->view && f < s->foundations.n; f++)
			if (streq(s->foundations.at[f], inside))
				return err_set(err, EBUSY, "a disk of the VM %s lies on it",
					       s->view->name);
	}
	return 0;
}

static int prove_unused(struct engine *e, const struct orphan *o, const struct layer_file *file,
			struct err *err)
{
	cleanup(evidence_clear) struct evidence ev = { 0 };
	const char *why;
	int r = file_check_unused(o->path, err);

	if (r >= 0)
		r = check_tenants(e, o, err);
	if (r >= 0)
		r = evidence_gather(e, &ev, err);
	if (r < 0)
		return r;
	why = evidence_for(&ev, file);
	if (why)
		return err_set(err, EBUSY, "%s", why);
	r = check_overlays(&ev.layers, file, err);
	return r < 0 ? r : check_saved(e, o, err);
}

static int remove_orphan(struct engine *e, const struct orphan *o, struct err *err)
{
	struct layer_file file = { .path = o->path, .format = (char *)"qcow2", .dev = o->dev,
				   .ino = o->ino };
	int r;

	if (!e->hv->ops->connected(e->hv))
		return err_set(err, EHOSTDOWN, "libvirt does not answer, and only it knows who uses "
			       "it");
	r = prove_unused(e, o, &file, err);
	return r < 0 ? r : file_remove(&file, err);
}

/* What was known, without one. */
static void publish_without(struct engine *e, const struct orphan_list *old, uint64_t id)
{
	struct orphan_list *list = xnew(struct orphan_list);

	list->refs = 1;
	list->orphans = xcalloc(old->n, sizeof(*list->orphans));
	for (size_t i = 0; i < old->n; i++) {
		struct orphan *o = &list->orphans[list->n];

		if (old->orphans[i].id == id)
			continue;
		*o = old->orphans[i];
		o->name = xstrdup(o->name);
		o->path = xstrdup(o->path);
		list->n++;
	}
	publish(e, list);
}

static int chore_remove(struct engine *e, struct chore *c, struct err *err)
{
	cleanup(orphan_list_unref_p) struct orphan_list *list = engine_orphans(e);
	const struct orphan *o = find_orphan(list, c->orphan);
	int r = o ? remove_orphan(e, o, err) : err_set(err, ENOENT, "it is not there any more");

	if (r < 0) {
		err_wrap(err, "cannot delete %s", o ? o->name : "an orphan");
		set_last_error(e, err->msg);
	} else {
		publish_without(e, list, c->orphan);
	}
	return r;
}

void engine_orphan_remove(struct engine *e, uint64_t id, engine_done *done, void *opaque)
{
	struct chore *c = xnew(struct chore);

	*c = (struct chore){ .run = chore_remove, .done = done, .opaque = opaque, .orphan = id };
	chore_submit(e, c);
}
