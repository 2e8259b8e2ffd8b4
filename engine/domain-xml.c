/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading domains and snapshots out of libvirt's XML. Children are looked up
 * by hand, not by XPath: a <source> also occurs in <mirror> and <backingStore>,
 * and must not be taken for the disk's own.
 */
#include "engine/xml-tree.h"

#include "common/cleanup.h"
#include "common/mem.h"

#include <errno.h>

/* ---- disks ---- */

/* A source's file, or its block device; NULL for whatever has no path. */
static char *source_path(xmlNode *source)
{
	char *path = xml_attribute(source, "file");

	return path ? path : xml_attribute(source, "dev");
}

static void parse_backing(struct xml_disk *d, xmlNode *disk)
{
	for (xmlNode *b = xml_child(disk, "backingStore"); b; b = xml_child(b, "backingStore")) {
		xmlNode *source = xml_child(b, "source");

		if (!source) { /* an empty one closes the chain */
			d->backing_ends = true;
			break;
		}
		d->backing = xreallocarray(d->backing, d->n_backing + 1, sizeof(*d->backing));
		d->backing[d->n_backing++] = (struct xml_layer){
			.path = source_path(source),
			.format = xml_attribute(xml_child(b, "format"), "type"),
		};
	}
}

static void parse_disk(struct xml_disk *d, xmlNode *disk)
{
	xmlNode *source = xml_child(disk, "source");
	cleanup_free char *copy_on_read = xml_attribute(xml_child(disk, "driver"), "copy_on_read");

	d->target = xml_attribute(xml_child(disk, "target"), "dev");
	d->device = xml_attribute(disk, "device");
	if (!d->device)
		d->device = xstrdup("disk"); /* libvirt's default */
	d->type = xml_attribute(disk, "type");
	d->path = source_path(source);
	d->format = xml_attribute(xml_child(disk, "driver"), "type");
	d->snapshot = xml_attribute(disk, "snapshot");
	d->readonly = xml_child(disk, "readonly");
	d->shareable = xml_child(disk, "shareable");
	d->transient = xml_child(disk, "transient");
	d->encrypted = xml_child(disk, "encryption") || xml_child(source, "encryption");
	d->copy_on_read = streq(copy_on_read, "on");
	parse_backing(d, disk);
}

static void parse_disks(struct domain_xml *d, xmlNode *devices)
{
	for (xmlNode *n = xml_child(devices, "disk"); n; n = xml_next(n, "disk")) {
		d->disks = xreallocarray(d->disks, d->n_disks + 1, sizeof(*d->disks));
		d->disks[d->n_disks] = (struct xml_disk){ 0 };
		parse_disk(&d->disks[d->n_disks], n);
		if (d->disks[d->n_disks].target)
			d->n_disks++;
		else
			xml_disk_clear(&d->disks[d->n_disks]);
	}
}

void xml_disk_clear(struct xml_disk *d)
{
	free(d->target);
	free(d->device);
	free(d->type);
	free(d->path);
	free(d->format);
	free(d->snapshot);
	for (size_t i = 0; i < d->n_backing; i++) {
		free(d->backing[i].path);
		free(d->backing[i].format);
	}
	free(d->backing);
}

/* ---- a domain ---- */

static bool has_agent(xmlNode *devices)
{
	for (xmlNode *c = xml_child(devices, "channel"); c; c = xml_next(c, "channel")) {
		cleanup_free char *name = xml_attribute(xml_child(c, "target"), "name");
		cleanup_free char *state = xml_attribute(xml_child(c, "target"), "state");

		if (streq(name, "org.qemu.guest_agent.0") && streq(state, "connected"))
			return true;
	}
	return false;
}

struct domain_xml *domain_from_node(xmlNode *domain)
{
	struct domain_xml *d = xnew(struct domain_xml);
	xmlNode *devices = xml_child(domain, "devices");

	d->name = xml_text(xml_child(domain, "name"));
	d->uuid = xml_text(xml_child(domain, "uuid"));
	d->nvram = xml_text(xml_child(xml_child(domain, "os"), "nvram"));
	d->agent = has_agent(devices);
	parse_disks(d, devices);
	return d;
}

int domain_xml_parse(const char *xml, struct domain_xml **ret, struct err *err)
{
	cleanup(xml_doc_free_p) xmlDoc *doc = NULL;
	int r = xml_doc_parse(xml, "domain", &doc, err);

	if (r < 0)
		return r;
	*ret = domain_from_node(xmlDocGetRootElement(doc));
	xml_features(xmlDocGetRootElement(doc), &(*ret)->features);
	return 0;
}

void domain_xml_free(struct domain_xml *d)
{
	if (!d)
		return;
	for (size_t i = 0; i < d->n_disks; i++)
		xml_disk_clear(&d->disks[i]);
	free(d->disks);
	free(d->name);
	free(d->uuid);
	free(d->nvram);
	feature_set_clear(&d->features);
	free(d);
}

const struct xml_disk *domain_xml_disk(const struct domain_xml *d, const char *target)
{
	for (size_t i = 0; i < d->n_disks; i++)
		if (streq(d->disks[i].target, target))
			return &d->disks[i];
	return NULL;
}

int domain_xml_forget_chain(const char *xml, const char *target, char **ret, struct err *err)
{
	cleanup(xml_doc_free_p) xmlDoc *doc = NULL;
	xmlNode *devices;
	int r = xml_doc_parse(xml, "domain", &doc, err);

	if (r < 0)
		return r;
	devices = xml_child(xmlDocGetRootElement(doc), "devices");
	for (xmlNode *d = xml_child(devices, "disk"); d; d = xml_next(d, "disk")) {
		cleanup_free char *name = xml_attribute(xml_child(d, "target"), "dev");

		if (streq(name, target))
			xml_remove(xml_child(d, "backingStore"));
	}
	*ret = xml_print(xmlDocGetRootElement(doc));
	return 0;
}

/* ---- other files in the place of a disk's ---- */

static const struct xml_rename *rename_of(const char *path, const struct xml_rename *renames,
					  size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (streq(renames[i].from, path))
			return &renames[i];
	return NULL;
}

/* True if one of the renamed files is named anywhere under `disk`. */
static bool chain_has(xmlNode *disk, const struct xml_rename *renames, size_t n)
{
	for (xmlNode *b = xml_child(disk, "backingStore"); b; b = xml_child(b, "backingStore")) {
		cleanup_free char *path = source_path(xml_child(b, "source"));

		if (rename_of(path, renames, n))
			return true;
	}
	return false;
}

static bool rename_in_disk(xmlNode *disk, const struct xml_rename *renames, size_t n)
{
	xmlNode *source = xml_child(disk, "source");
	cleanup_free char *path = source_path(source);
	const struct xml_rename *rename = rename_of(path, renames, n);

	if (!rename && !chain_has(disk, renames, n))
		return false;
	if (rename) {
		xml_set_attribute(source, "file", rename->to);
		if (rename->format)
			xml_set_attribute(xml_child_or_new(disk, "driver"), "type", rename->format);
	}
	/* libvirt would believe the chain that is written there: let it look. */
	xml_remove(xml_child(disk, "backingStore"));
	return true;
}

bool xml_rename_in_domain(xmlNode *domain, const struct xml_rename *renames, size_t n)
{
	xmlNode *devices = xml_child(domain, "devices");
	bool changed = false;

	for (xmlNode *d = xml_child(devices, "disk"); d; d = xml_next(d, "disk"))
		changed |= rename_in_disk(d, renames, n);
	return changed;
}

int domain_xml_rename(const char *xml, const struct xml_rename *renames, size_t n, char **ret,
		      bool *ret_changed, struct err *err)
{
	cleanup(xml_doc_free_p) xmlDoc *doc = NULL;
	bool changed;
	int r = xml_doc_parse(xml, "domain", &doc, err);

	if (r < 0)
		return r;
	changed = xml_rename_in_domain(xmlDocGetRootElement(doc), renames, n);
	*ret = xml_print(xmlDocGetRootElement(doc));
	if (ret_changed)
		*ret_changed = changed;
	return 0;
}

int disk_xml_build(const char *path, const char *format, char **ret, struct err *err)
{
	cleanup(xml_doc_free_p) xmlDoc *doc = NULL;
	int r = xml_doc_parse("<disk type='file'/>", "disk", &doc, err);
	xmlNode *disk;

	if (r < 0)
		return r;
	disk = xmlDocGetRootElement(doc);
	xml_set_attribute(xml_add(disk, "driver"), "type", format);
	xml_set_attribute(xml_add(disk, "source"), "file", path);
	*ret = xml_print(disk);
	return 0;
}
