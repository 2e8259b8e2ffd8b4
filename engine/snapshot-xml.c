/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Snapshots in libvirt's XML. The layer that a snapshot froze is not said by
 * its <disks>, which name the overlay that was put on top, but by the source
 * of that disk in the <domain> it keeps.
 */
#include "engine/xml-tree.h"

#include "common/cleanup.h"
#include "common/mem.h"

#include <errno.h>

DEFINE_CLEANUP(struct domain_xml, domain_xml_free);

/* ---- reading ---- */

static void parse_disk(struct snapshot_xml *s, xmlNode *node, const struct domain_xml *domain,
		       bool *mixed)
{
	cleanup_free char *target = xml_attribute(node, "name");
	cleanup_free char *kind = xml_attribute(node, "snapshot");
	const struct xml_disk *disk;

	if (streq(kind, "no"))
		return;
	if (!streq(kind, "external")) {
		*mixed = true;
		return;
	}
	disk = target ? domain_xml_disk(domain, target) : NULL;
	if (!disk)
		return;
	s->disks = xreallocarray(s->disks, s->n_disks + 1, sizeof(*s->disks));
	s->disks[s->n_disks++] = (struct xml_snapshot_disk){
		.target = xstrdup(target),
		.overlay = xml_attribute(xml_child(node, "source"), "file"),
		.frozen = xstrdup(disk->path),
		.frozen_format = xstrdup(disk->format ? disk->format : "raw"),
	};
}

static int64_t number_of(xmlNode *node)
{
	cleanup_free char *text = xml_text(node);

	return text ? strtoll(text, NULL, 10) : 0;
}

static struct snapshot_xml *snapshot_from_node(xmlNode *root)
{
	struct snapshot_xml *s = xnew(struct snapshot_xml);
	cleanup(domain_xml_free_p) struct domain_xml *domain = NULL;
	cleanup_free char *memory = xml_attribute(xml_child(root, "memory"), "snapshot");
	bool mixed = streq(memory, "internal");

	domain = domain_from_node(xml_child(root, "domain"));
	s->name = xml_text(xml_child(root, "name"));
	s->description = xml_text(xml_child(root, "description"));
	if (!s->description)
		s->description = xstrdup("");
	s->parent = xml_text(xml_child(xml_child(root, "parent"), "name"));
	s->created = number_of(xml_child(root, "creationTime"));
	s->state = xml_text(xml_child(root, "state"));
	s->memory = streq(memory, "external");
	for (xmlNode *d = xml_child(xml_child(root, "disks"), "disk"); d; d = xml_next(d, "disk"))
		parse_disk(s, d, domain, &mixed);
	s->external = s->n_disks > 0 && !mixed;
	return s;
}

int snapshot_xml_parse(const char *xml, struct snapshot_xml **ret, struct err *err)
{
	cleanup(xml_doc_free_p) xmlDoc *doc = NULL;
	struct snapshot_xml *s;
	int r = xml_doc_parse(xml, "domainsnapshot", &doc, err);

	if (r < 0)
		return r;
	s = snapshot_from_node(xmlDocGetRootElement(doc));
	if (!s->name) {
		snapshot_xml_free(s);
		return err_set(err, EINVAL, "libvirt's XML is a snapshot without a name");
	}
	*ret = s;
	return 0;
}

void snapshot_xml_free(struct snapshot_xml *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n_disks; i++) {
		free(s->disks[i].target);
		free(s->disks[i].overlay);
		free(s->disks[i].frozen);
		free(s->disks[i].frozen_format);
	}
	free(s->disks);
	free(s->name);
	free(s->description);
	free(s->parent);
	free(s->state);
	free(s);
}

int snapshot_xml_domain(const char *xml, char **ret, struct err *err)
{
	cleanup(xml_doc_free_p) xmlDoc *doc = NULL;
	xmlNode *domain;
	int r = xml_doc_parse(xml, "domainsnapshot", &doc, err);

	if (r < 0)
		return r;
	domain = xml_child(xmlDocGetRootElement(doc), "domain");
	if (!domain)
		return err_set(err, ENOENT, "libvirt did not keep the domain of this snapshot");
	*ret = xml_print(domain);
	return 0;
}

/* ---- making and editing ---- */

static const struct overlay *overlay_of(const struct overlay *overlays, size_t n,
					const char *target)
{
	for (size_t i = 0; i < n; i++)
		if (streq(overlays[i].target, target))
			return &overlays[i];
	return NULL;
}

static void add_disk(xmlNode *disks, const struct overlay *o)
{
	xmlNode *disk = xml_add(disks, "disk");

	xml_set_attribute(disk, "name", o->target);
	xml_set_attribute(disk, "snapshot", o->path ? "external" : "no");
	if (!o->path)
		return;
	xml_set_attribute(disk, "type", "file");
	xml_set_attribute(xml_add(disk, "driver"), "type", "qcow2");
	xml_set_attribute(xml_add(disk, "source"), "file", o->path);
}

int snapshot_xml_build(const char *name, const char *description, const struct overlay *overlays,
		       size_t n, char **ret, struct err *err)
{
	cleanup(xml_doc_free_p) xmlDoc *doc = NULL;
	xmlNode *root, *disks;
	int r = xml_doc_parse("<domainsnapshot/>", "domainsnapshot", &doc, err);

	if (r < 0)
		return r;
	root = xmlDocGetRootElement(doc);
	xml_set_child_text(root, "name", name);
	xml_set_child_text(root, "description", description);
	disks = xml_add(root, "disks");
	for (size_t i = 0; i < n; i++)
		add_disk(disks, &overlays[i]);
	*ret = xml_print(root);
	return 0;
}

static void set_parent(xmlNode *root, const char *parent)
{
	if (parent[0])
		xml_set_child_text(xml_child_or_new(root, "parent"), "name", parent);
	else
		xml_remove(xml_child(root, "parent"));
}

static void edit_disk(xmlNode *disk, const struct snapshot_edit *edit)
{
	cleanup_free char *target = xml_attribute(disk, "name");
	xmlNode *source = xml_child(disk, "source");
	cleanup_free char *path = xml_attribute(source, "file");
	const struct overlay *o = overlay_of(edit->overlays, edit->n_overlays, target);

	if (!source)
		return;
	for (size_t i = 0; i < edit->n_renames; i++)
		if (streq(path, edit->renames[i].from))
			xml_set_attribute(source, "file", edit->renames[i].to);
	if (o && o->path)
		xml_set_attribute(source, "file", o->path);
}

int snapshot_xml_edit(const char *xml, const struct snapshot_edit *edit, char **ret,
		      struct err *err)
{
	cleanup(xml_doc_free_p) xmlDoc *doc = NULL;
	xmlNode *root;
	int r = xml_doc_parse(xml, "domainsnapshot", &doc, err);

	if (r < 0)
		return r;
	root = xmlDocGetRootElement(doc);
	if (edit->name)
		xml_set_child_text(root, "name", edit->name);
	if (edit->description)
		xml_set_child_text(root, "description", edit->description);
	if (edit->parent)
		set_parent(root, edit->parent);
	for (xmlNode *d = xml_child(xml_child(root, "disks"), "disk"); d; d = xml_next(d, "disk"))
		edit_disk(d, edit);
	xml_rename_in_domain(xml_child(root, "domain"), edit->renames, edit->n_renames);
	xml_rename_in_domain(xml_child(root, "inactiveDomain"), edit->renames, edit->n_renames);
	*ret = xml_print(root);
	return 0;
}

static void put_overlay(xmlNode *disk, const char *path)
{
	xml_set_attribute(disk, "type", "file");
	xml_remove(xml_child(disk, "backingStore"));
	xml_remove(xml_child(disk, "mirror"));
	xml_set_attribute(xml_child_or_new(disk, "driver"), "type", "qcow2");
	xml_set_attribute(xml_child_or_new(disk, "source"), "file", path);
}

int xml_snapshot_definition(xmlNode *root, xmlNode **ret, struct err *err)
{
	xmlNode *domain = xml_child(root, "inactiveDomain");

	if (domain)
		xmlNodeSetName(domain, (const xmlChar *)"domain");
	else
		domain = xml_child(root, "domain");
	if (!domain)
		return err_set(err, ENOENT, "libvirt did not keep the domain of this snapshot");
	*ret = domain;
	return 0;
}

int snapshot_xml_definition(const char *xml, const char *domain_name,
			    const struct overlay *overlays, size_t n, char **ret, struct err *err)
{
	cleanup(xml_doc_free_p) xmlDoc *doc = NULL;
	xmlNode *domain, *devices;
	int r = xml_doc_parse(xml, "domainsnapshot", &doc, err);

	if (r >= 0)
		r = xml_snapshot_definition(xmlDocGetRootElement(doc), &domain, err);
	if (r < 0)
		return r;
	xml_set_child_text(domain, "name", domain_name);
	devices = xml_child(domain, "devices");
	for (xmlNode *d = xml_child(devices, "disk"); d; d = xml_next(d, "disk")) {
		cleanup_free char *target = xml_attribute(xml_child(d, "target"), "dev");
		const struct overlay *o = overlay_of(overlays, n, target);

		if (o && o->path)
			put_overlay(d, o->path);
		else
			/* A disk that took no part: its chain may be another by now. */
			xml_remove(xml_child(d, "backingStore"));
	}
	*ret = xml_print(domain);
	return 0;
}
