/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files: FOLDER/UUID/{config.xml,live.xml,current} and FOLDER/UUID/snapshots/NAME.
 * live.xml is there while the domain runs. Everything is read anew at each
 * call; nothing is kept in memory but the faults.
 */
#include "tests/lib/fake-hv.h"

#include "common/cleanup.h"
#include "common/mem.h"
#include "common/vec.h"
#include "engine/xml-tree.h"

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>
#include <time.h>

DEFINE_CLEANUP(struct domain_xml, domain_xml_free);
DEFINE_CLEANUP(struct snapshot_xml, snapshot_xml_free);

struct fake {
	struct hv hv;
	char *folder;
	const struct hv_events *events;
	bool disconnected;
	int calls, fail_at, error;
	bool fail_after;
};

/* ---- files ---- */

static char *path_of(const struct fake *f, const char *uuid, const char *name)
{
	return xasprintf("%s/%s/%s", f->folder, uuid, name);
}

static char *snapshot_path(const struct fake *f, const char *uuid, const char *name)
{
	return xasprintf("%s/%s/snapshots/%s", f->folder, uuid, name);
}

static char *read_file(const char *path)
{
	cleanup_fclose FILE *f = fopen(path, "r");
	char *text = NULL;
	size_t size = 0;

	return f && getdelim(&text, &size, '\0', f) >= 0 ? text : (free(text), NULL);
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	if (!f || fputs(text, f) < 0 || fclose(f) != 0)
		abort();
}

static char *read_of(const struct fake *f, const char *uuid, const char *name)
{
	cleanup_free char *path = path_of(f, uuid, name);

	return read_file(path);
}

static void write_of(const struct fake *f, const char *uuid, const char *name, const char *text)
{
	cleanup_free char *path = path_of(f, uuid, name);

	write_file(path, text);
}

static void remove_of(const struct fake *f, const char *uuid, const char *name)
{
	cleanup_free char *path = path_of(f, uuid, name);

	unlink(path);
}

/* ---- faults ---- */

static int begin_change(struct fake *f, struct err *err)
{
	f->calls++;
	if (f->disconnected)
		return err_set(err, EHOSTDOWN, "the fake is disconnected");
	if (f->calls == f->fail_at && !f->fail_after)
		return err_set(err, -f->error, "the fake fails, as it was told");
	return 0;
}

static int end_change(struct fake *f, struct err *err)
{
	if (f->calls == f->fail_at && f->fail_after)
		return err_set(err, -f->error, "the fake fails afterwards, as it was told");
	return 0;
}

static int begin_look(const struct fake *f, struct err *err)
{
	return f->disconnected ? err_set(err, EHOSTDOWN, "the fake is disconnected") : 0;
}

/* ---- domains ---- */

static void fake_close(struct hv *hv)
{
	struct fake *f = (struct fake *)hv;

	free(f->folder);
	free(f);
}

static bool fake_connected(struct hv *hv)
{
	return !((struct fake *)hv)->disconnected;
}

static int fake_domain_xml(struct hv *hv, const char *uuid, bool config, char **ret,
			   struct err *err)
{
	struct fake *f = (struct fake *)hv;
	int r = begin_look(f, err);
	char *xml;

	if (r < 0)
		return r;
	xml = config ? NULL : read_of(f, uuid, "live.xml");
	if (!xml)
		xml = read_of(f, uuid, "config.xml");
	if (!xml)
		return err_set(err, ENOENT, "the fake has no domain %s", uuid);
	*ret = xml;
	return 0;
}

static int fake_lookup(struct hv *hv, const char *uuid, struct hv_domain *ret, struct err *err)
{
	struct fake *f = (struct fake *)hv;
	cleanup_free char *xml = NULL, *live = NULL;
	cleanup(domain_xml_free_p) struct domain_xml *d = NULL;
	int r = fake_domain_xml(hv, uuid, true, &xml, err);

	if (r >= 0)
		r = domain_xml_parse(xml, &d, err);
	if (r < 0)
		return r;
	live = read_of(f, uuid, "live.xml");
	*ret = (struct hv_domain){ .name = xstrdup(d->name), .active = live != NULL,
				   .state = live ? "running" : "shut off", .persistent = true };
	snprintf(ret->uuid, sizeof(ret->uuid), "%s", uuid);
	return 0;
}

static int fake_list(struct hv *hv, struct hv_domain **ret, size_t *ret_n, struct err *err)
{
	struct fake *f = (struct fake *)hv;
	vec_of(struct hv_domain) domains = { 0 };
	struct dirent *entry;
	int r = begin_look(f, err);
	DIR *dir = opendir(f->folder);

	while (r >= 0 && dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			r = fake_lookup(hv, entry->d_name, vec_add(&domains), err);
	if (dir)
		closedir(dir);
	*ret = domains.at;
	*ret_n = domains.n;
	return r;
}

static int fake_define(struct hv *hv, const char *xml, struct err *err)
{
	struct fake *f = (struct fake *)hv;
	cleanup(domain_xml_free_p) struct domain_xml *d = NULL;
	int r = begin_change(f, err);

	if (r >= 0)
		r = domain_xml_parse(xml, &d, err);
	if (r < 0)
		return r;
	write_of(f, d->uuid, "config.xml", xml);
	return end_change(f, err);
}

static int fake_sync(struct hv *hv, const char *uuid, struct err *err)
{
	struct fake *f = (struct fake *)hv;
	int r = begin_change(f, err);

	return r < 0 ? r : end_change(f, err);
}

static int fake_start(struct hv *hv, const char *uuid, struct err *err)
{
	struct fake *f = (struct fake *)hv;
	cleanup_free char *xml = read_of(f, uuid, "config.xml");
	int r = begin_change(f, err);

	if (r < 0)
		return r;
	write_of(f, uuid, "live.xml", xml);
	return end_change(f, err);
}

static int fake_destroy(struct hv *hv, const char *uuid, struct err *err)
{
	struct fake *f = (struct fake *)hv;
	int r = begin_change(f, err);

	if (r < 0)
		return r;
	remove_of(f, uuid, "live.xml");
	return end_change(f, err);
}

/* An element in the place of what is there of its namespace; NULL: of none. */
static char *with_metadata(const char *xml, const char *namespace, const char *prefix,
			   const char *element)
{
	cleanup(xml_doc_free_p) xmlDoc *doc = NULL, *fresh = NULL;
	xmlNode *metadata, *added;

	if (xml_doc_parse(xml, "domain", &doc, NULL) < 0)
		abort();
	metadata = xml_child_or_new(xmlDocGetRootElement(doc), "metadata");
	for (xmlNode *n = metadata->children, *next; n; n = next) {
		next = n->next;
		if (n->ns && streq((const char *)n->ns->href, namespace))
			xml_remove(n);
	}
	if (element) {
		fresh = xmlParseDoc((const xmlChar *)element);
		added = xmlDocCopyNode(xmlDocGetRootElement(fresh), doc, 1);
		xmlAddChild(metadata, added);
		xmlSetNs(added, xmlNewNs(added, (const xmlChar *)namespace, (const xmlChar *)prefix));
	}
	return xml_print(xmlDocGetRootElement(doc));
}

/* First of what runs, then of the config, as libvirt does it. */
static int fake_set_metadata(struct hv *hv, const char *uuid, const char *namespace,
			     const char *prefix, const char *element, struct err *err)
{
	static const char *const files[] = { "live.xml", "config.xml" };
	struct fake *f = (struct fake *)hv;
	int r = begin_change(f, err);

	for (size_t i = 0; i < 2 && r >= 0; i++) {
		cleanup_free char *xml = read_of(f, uuid, files[i]), *edited = NULL;

		if (!xml)
			continue;
		edited = with_metadata(xml, namespace, prefix, element);
		write_of(f, uuid, files[i], edited);
	}
	return r < 0 ? r : end_change(f, err);
}

/* ---- holding a VM for a moment: a domain of the fake's does nothing by itself ---- */

static int fake_hold(struct hv *hv, const char *uuid, struct err *err)
{
	struct fake *f = (struct fake *)hv;
	int r = begin_change(f, err);

	return r < 0 ? r : end_change(f, err);
}

static bool fake_agent_answers(struct hv *hv, const char *uuid)
{
	return false;
}

/* ---- snapshots ---- */

static int fake_snapshots(struct hv *hv, const char *uuid, char ***ret_names, size_t *ret_n,
			  char **ret_current, struct err *err)
{
	struct fake *f = (struct fake *)hv;
	cleanup_free char *folder = path_of(f, uuid, "snapshots");
	vec_of(char *) names = { 0 };
	struct dirent *entry;
	int r = begin_look(f, err);
	DIR *dir;

	if (r < 0)
		return r;
	dir = opendir(folder);
	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			vec_push(&names, xstrdup(entry->d_name));
	if (dir)
		closedir(dir);
	*ret_names = names.at;
	*ret_n = names.n;
	*ret_current = read_of(f, uuid, "current");
	return 0;
}

static int fake_snapshot_xml(struct hv *hv, const char *uuid, const char *name, char **ret,
			     struct err *err)
{
	struct fake *f = (struct fake *)hv;
	cleanup_free char *path = snapshot_path(f, uuid, name);
	int r = begin_look(f, err);
	char *xml;

	if (r < 0)
		return r;
	xml = read_file(path);
	if (!xml)
		return err_set(err, ENOENT, "the fake has no snapshot %s", name);
	*ret = xml;
	return 0;
}

/* The parent that a snapshot's XML names, NULL if none. The caller frees it. */
static char *parent_of(struct fake *f, const char *uuid, const char *name)
{
	cleanup_free char *path = snapshot_path(f, uuid, name), *xml = read_file(path);
	const char *begin = xml ? strstr(xml, "<parent>") : NULL;
	const char *from = begin ? strstr(begin, "<name>") : NULL;

	return from ? xasprintf("%.*s", (int)strcspn(from + 6, "<"), from + 6) : NULL;
}

static int fake_snapshot_children(struct hv *hv, const char *uuid, const char *name,
				  char ***ret_names, size_t *ret_n, struct err *err)
{
	struct fake *f = (struct fake *)hv;
	cleanup_free char *current = NULL, *itself = NULL;
	char **names = NULL;
	size_t n = 0, count = 0;
	int r = fake_snapshot_xml(hv, uuid, name, &itself, err);

	if (r >= 0)
		r = fake_snapshots(hv, uuid, &names, &n, &current, err);
	for (size_t i = 0; i < n && r >= 0; i++) {
		cleanup_free char *parent = parent_of(f, uuid, names[i]);

		if (streq(parent, name))
			names[count++] = names[i];
		else
			free(names[i]);
	}
	*ret_names = names;
	*ret_n = count;
	return r;
}

/* A document's root element without what stands before it. */
static const char *element(const char *xml)
{
	return strncmp(xml, "<?xml", 5) ? xml : strchr(xml, '>') + 1;
}

/* What libvirt keeps of a snapshot: what it was asked, and when, and of what. */
static char *complete(const char *asked, const char *domain, const char *parent, bool active)
{
	const char *root = element(asked), *end = strstr(root, "</domainsnapshot>");
	cleanup_free char *parent_xml = parent ? xasprintf("<parent><name>%s</name></parent>", parent)
					       : xstrdup("");

	return xasprintf("%.*s<state>%s</state><creationTime>%lld</creationTime>%s%s"
			 "</domainsnapshot>", (int)(end - root), root,
			 active ? "disk-snapshot" : "shutoff", (long long)time(NULL), parent_xml,
			 element(domain));
}

static int switch_over(struct fake *f, const char *uuid, const char *which,
		       const struct snapshot_xml *s, struct err *err)
{
	cleanup_free char *xml = read_of(f, uuid, which), *edited = NULL;
	struct xml_rename renames[8];
	int r;

	if (!xml)
		return 0;
	for (size_t i = 0; i < s->n_disks; i++)
		renames[i] = (struct xml_rename){ s->disks[i].frozen, s->disks[i].overlay, "qcow2" };
	r = domain_xml_rename(xml, renames, s->n_disks, &edited, NULL, err);
	if (r >= 0)
		write_of(f, uuid, which, edited);
	return r;
}

static int fake_snapshot_create(struct hv *hv, const char *uuid, const char *xml, unsigned flags,
				struct err *err)
{
	struct fake *f = (struct fake *)hv;
	cleanup_free char *domain = NULL, *current = NULL, *whole = NULL, *path = NULL, *live = NULL;
	cleanup(snapshot_xml_free_p) struct snapshot_xml *s = NULL;
	int r = begin_change(f, err);

	if (r >= 0)
		r = fake_domain_xml(hv, uuid, false, &domain, err);
	if (r < 0)
		return r;
	current = read_of(f, uuid, "current");
	live = read_of(f, uuid, "live.xml");
	whole = complete(xml, domain, current, live != NULL);
	r = snapshot_xml_parse(whole, &s, err);
	if (r >= 0)
		r = switch_over(f, uuid, "live.xml", s, err);
	if (r >= 0)
		r = switch_over(f, uuid, "config.xml", s, err);
	if (r < 0)
		return r;
	path = snapshot_path(f, uuid, s->name);
	write_file(path, whole);
	write_of(f, uuid, "current", s->name);
	return end_change(f, err);
}

static int fake_snapshot_redefine(struct hv *hv, const char *uuid, const char *xml, bool current,
				  struct err *err)
{
	struct fake *f = (struct fake *)hv;
	cleanup(snapshot_xml_free_p) struct snapshot_xml *s = NULL;
	cleanup_free char *path = NULL;
	int r = begin_change(f, err);

	if (r >= 0)
		r = snapshot_xml_parse(xml, &s, err);
	if (r < 0)
		return r;
	path = snapshot_path(f, uuid, s->name);
	write_file(path, element(xml));
	if (current)
		write_of(f, uuid, "current", s->name);
	return end_change(f, err);
}

static int hand_over_children(struct fake *f, const char *uuid, const struct snapshot_xml *gone,
			      struct err *err)
{
	struct snapshot_edit edit = { .parent = gone->parent ?: "" };
	cleanup_free char *current = NULL;
	char **names = NULL;
	size_t n = 0;
	int r = fake_snapshots(&f->hv, uuid, &names, &n, &current, err);

	for (size_t i = 0; i < n; i++) {
		cleanup_free char *path = snapshot_path(f, uuid, names[i]);
		cleanup_free char *xml = read_file(path), *edited = NULL;
		cleanup(snapshot_xml_free_p) struct snapshot_xml *s = NULL;

		if (r >= 0)
			r = snapshot_xml_parse(xml, &s, err);
		if (r >= 0 && streq(s->parent, gone->name)) {
			r = snapshot_xml_edit(xml, &edit, &edited, err);
			if (r >= 0)
				write_file(path, element(edited));
		}
		free(names[i]);
	}
	free(names);
	if (r >= 0 && streq(current, gone->name)) {
		if (gone->parent)
			write_of(f, uuid, "current", gone->parent);
		else
			remove_of(f, uuid, "current");
	}
	return r;
}

static int fake_snapshot_forget(struct hv *hv, const char *uuid, const char *name, struct err *err)
{
	struct fake *f = (struct fake *)hv;
	cleanup_free char *path = snapshot_path(f, uuid, name);
	cleanup_free char *xml = NULL;
	cleanup(snapshot_xml_free_p) struct snapshot_xml *gone = NULL;
	int r = begin_change(f, err);

	if (r < 0)
		return r;
	xml = read_file(path);
	if (!xml)
		return end_change(f, err);
	r = snapshot_xml_parse(xml, &gone, err);
	if (r >= 0)
		r = hand_over_children(f, uuid, gone, err);
	if (r < 0)
		return r;
	unlink(path);
	return end_change(f, err);
}

/* ---- block jobs: there is no QEMU to run them ---- */

static int fake_commit(struct hv *hv, const char *uuid, const char *target, const char *base,
		       const char *top, uint64_t bandwidth, struct err *err)
{
	return err_set(err, EOPNOTSUPP, "the fake runs no VM");
}

static int fake_copy(struct hv *hv, const char *uuid, const char *target, const char *xml,
		     struct err *err)
{
	return err_set(err, EOPNOTSUPP, "the fake runs no VM");
}

static int fake_job(struct hv *hv, const char *uuid, const char *target, struct hv_job *ret,
		    struct err *err)
{
	*ret = (struct hv_job){ .state = HV_JOB_NONE };
	return begin_look((struct fake *)hv, err);
}

static int fake_job_abort(struct hv *hv, const char *uuid, const char *target, bool pivot,
			  struct err *err)
{
	return 0;
}

static const struct hv_ops fake_ops = {
	.close = fake_close,
	.connected = fake_connected,
	.list = fake_list,
	.lookup = fake_lookup,
	.domain_xml = fake_domain_xml,
	.define = fake_define,
	.sync = fake_sync,
	.start = fake_start,
	.destroy = fake_destroy,
	.set_metadata = fake_set_metadata,
	.suspend = fake_hold,
	.resume = fake_hold,
	.agent_answers = fake_agent_answers,
	.freeze = fake_hold,
	.thaw = fake_hold,
	.snapshots = fake_snapshots,
	.snapshot_children = fake_snapshot_children,
	.snapshot_xml = fake_snapshot_xml,
	.snapshot_create = fake_snapshot_create,
	.snapshot_redefine = fake_snapshot_redefine,
	.snapshot_forget = fake_snapshot_forget,
	.commit = fake_commit,
	.copy = fake_copy,
	.job = fake_job,
	.job_abort = fake_job_abort,
};

struct hv *fake_hv_open(const char *folder)
{
	struct fake *f = xnew(struct fake);

	f->hv.ops = &fake_ops;
	f->folder = xstrdup(folder);
	return &f->hv;
}

void fake_hv_listen(struct hv *hv, const struct hv_events *events)
{
	((struct fake *)hv)->events = events;
}

void fake_hv_fail(struct hv *hv, int n, int error, bool after)
{
	struct fake *f = (struct fake *)hv;

	f->calls = 0;
	f->fail_at = n;
	f->error = error;
	f->fail_after = after;
}

int fake_hv_calls(const struct hv *hv)
{
	return ((const struct fake *)hv)->calls;
}

void fake_hv_set_connected(struct hv *hv, bool connected)
{
	((struct fake *)hv)->disconnected = !connected;
}
