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
 */
#include "engine/orphans.h"

#include "engine/domain-xml.h"
#include "engine/evidence.h"
#include "engine/known.h"
#include "engine/overlay.h"
#include "engine/own-mount.h"

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

DEFINE_CLEANUP(struct domain_xml, domain_xml_free);
DEFINE_CLEANUP(struct snapshot_xml, snapshot_xml_free);

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

const struct orphan *orphan_find(const struct orphan_list *list, uint64_t id)
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

void orphans_publish(struct engine *e, struct orphan_list *list)
{
	struct orphan_list *old;

	pthread_mutex_lock(&e->lock);
	old = e->house.orphans;
	list->looked = true;
	list->changed = old->changed;
	if (!same_orphans(old, list))
		clock_gettime(CLOCK_REALTIME, &list->changed);
	e->house.orphans = list;
	pthread_mutex_unlock(&e->lock);
	orphan_list_unref(old);
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

/* Each VM has one of its own in it. */
static void add_store(struct engine *e)
{
	cleanup_closedir DIR *dir = e->store ? opendir(e->store) : NULL;
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

/* ---- images in our naming ---- */

/* An image that may be an orphan. */
struct suspect {
	struct overlay_name name;
	struct layer_file file;
	struct stat st;
};

typedef vec_of(struct suspect) suspects_t;

static void suspects_clear(suspects_t *c)
{
	for (size_t i = 0; i < c->n; i++)
		layer_file_clear(&c->at[i].file);
	vec_free(c);
}

static void add_suspect(suspects_t *to, const char *folder, const char *name)
{
	struct suspect c = { 0 };

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

static int scan_folders(const struct engine *e, suspects_t *to, struct err *err)
{
	for (size_t i = 0; i < e->folders.n; i++) {
		cleanup_closedir DIR *dir = opendir(e->folders.at[i]);
		struct dirent *entry;

		if (!dir && errno != ENOENT)
			return err_sys(err, errno, "cannot list %s", e->folders.at[i]);
		while (dir && (entry = readdir(dir)))
			add_suspect(to, e->folders.at[i], entry->d_name);
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

static char *orphan_name(const known_t *vms, const struct suspect *c)
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
static uint64_t orphan_id(const struct suspect *c)
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

static void add_orphan(struct orphan_list *list, const known_t *vms, const struct suspect *c)
{
	uint64_t id = orphan_id(c);

	if (orphan_find(list, id))
		return;
	list->orphans[list->n++] = (struct orphan){
		.id = id, .name = orphan_name(vms, c), .path = xstrdup(c->file.path),
		.dev = c->file.dev, .ino = c->file.ino, .size = c->st.st_size,
		.allocated = (uint64_t)c->st.st_blocks * 512, .changed = c->st.st_mtim,
	};
}

/* ---- looking ---- */

/* A layer that was merged meanwhile is gone, and so is its tombstone. */
static bool is_there(const struct suspect *c)
{
	return layer_file_is_at(&c->file, c->file.path);
}

/* One look at the folders that are known. */
static int look_once(struct engine *e, struct orphan_list **ret, struct err *err)
{
	cleanup(suspects_clear) suspects_t suspects = { 0 };
	cleanup(evidence_clear) struct evidence ev = { 0 };
	cleanup(known_clear) known_t vms = { 0 };
	struct orphan_list *list;
	int r = know_vms(e, &vms, err);

	if (r >= 0)
		r = add_folders_of_registry(e, &vms, err);
	if (r < 0)
		return r;
	add_store(e);
	r = scan_folders(e, &suspects, err);
	if (r >= 0)
		r = evidence_gather(e, &ev, err);
	if (r < 0)
		return r;
	list = xnew(struct orphan_list);
	list->refs = 1;
	list->orphans = xcalloc(suspects.n, sizeof(*list->orphans));
	for (size_t i = 0; i < suspects.n; i++)
		if (!evidence_for(&ev, &suspects.at[i].file) && is_there(&suspects.at[i]))
			add_orphan(list, &vms, &suspects.at[i]);
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

void orphans_set_last_error(struct engine *e, const char *msg)
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
		orphans_publish(e, list);
	else if (r != -EHOSTDOWN)
		orphans_set_last_error(e, err.msg);
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

#define RETRY_MS 60000 /* after a look that failed */

void engine_orphans_refresh_later(struct engine *e, unsigned max_age_ms)
{
	LOCK_SCOPE(&e->lock);
	unsigned age = e->house.orphans->looked ? max_age_ms : RETRY_MS;

	if (!e->connected || e->house.orphans_refresh.running ||
	    (e->house.looked.tv_sec && is_younger(&e->house.looked, age)))
		return;
	e->house.orphans_refresh.wanted = true;
	pthread_cond_signal(&e->house.wake);
}

char *engine_orphans_last_error(struct engine *e)
{
	LOCK_SCOPE(&e->lock);

	return xstrdup(e->house.last_error ?: "");
}
