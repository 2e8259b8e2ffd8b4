/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/clone-xml.h"

#include "common/mem.h"
#include "engine/clone-devices.h"
#include "engine/clone-identity.h"

#include <errno.h>

/* In the domain's metadata; a name, and no address of anything. */
#define NAMESPACE "urn:kwsfs:clone"

/* ---- firmware ---- */

static int own_nvram(xmlNode *os, const char *path, struct err *err)
{
	xmlNode *nvram = xml_child(os, "nvram");
	cleanup_free char *type = xml_attribute(nvram, "type");

	if (!path && type && !streq(type, "file"))
		return err_set(err, EOPNOTSUPP, "the VM's UEFI variables are on a %s, and could not "
			       "be copied", type);
	if (!nvram && !path)
		return 0;
	nvram = xml_child_or_new(os, "nvram");
	/* The template stays: it is for a file that is not there, or to be reset. */
	xml_drop_attribute(nvram, "type");
	xml_set_text(nvram, path ? path : ""); /* without one libvirt makes one up */
	return 0;
}

static int check_loader(xmlNode *os, struct err *err)
{
	xmlNode *loader = xml_child(os, "loader");
	cleanup_free char *type = xml_attribute(loader, "type");
	cleanup_free char *readonly = xml_attribute(loader, "readonly");
	cleanup_free char *path = xml_text(loader);

	if (streq(type, "pflash") && streq(readonly, "no") && path[0])
		return err_set(err, EOPNOTSUPP, "the VM's firmware %s can be written, and two VMs "
			       "cannot both have it", path);
	return 0;
}

static int set_firmware(xmlNode *domain, const char *nvram, struct err *err)
{
	xmlNode *os = xml_child(domain, "os");
	int r = check_loader(os, err);

	return r < 0 ? r : own_nvram(os, nvram, err);
}

/* ---- what is said about the VM itself ---- */

static bool is_ours(const xmlNode *node)
{
	return node->ns && xmlStrcmp(node->ns->href, (const xmlChar *)NAMESPACE) == 0;
}

static void set_metadata(xmlNode *domain, const struct clone_spec *spec)
{
	xmlNode *metadata = xml_child_or_new(domain, "metadata"), *ours;

	for (xmlNode *n = metadata->children, *next; n; n = next) {
		next = n->next;
		if (is_ours(n))
			xml_remove(n); /* the source is a clone itself */
	}
	ours = xml_add(metadata, "clone");
	xmlSetNs(ours, xmlNewNs(ours, (const xmlChar *)NAMESPACE, (const xmlChar *)"kwsfs"));
	xml_set_attribute(ours, "source", spec->source);
	xml_set_attribute(ours, "snapshot", spec->snapshot);
}

/* Of a VM that ran: labels that libvirt made up for it. */
static void drop_live_labels(xmlNode *domain)
{
	for (xmlNode *s = xml_child(domain, "seclabel"); s; s = xml_next(s, "seclabel")) {
		cleanup_free char *type = xml_attribute(s, "type");

		xml_remove(xml_child(s, "imagelabel"));
		if (streq(type, "dynamic"))
			xml_remove(xml_child(s, "label"));
	}
}

static void set_ids(xmlNode *domain, const struct clone_spec *spec)
{
	xmlNode *genid = xml_child(domain, "genid");

	xml_drop_attribute(domain, "id");
	xml_set_child_text(domain, "name", spec->name);
	xml_set_child_text(domain, "uuid", spec->uuid);
	/* It tells a guest that its past is another's, too: an empty one is made up by libvirt. */
	if (genid)
		xml_set_text(genid, "");
}

static int make_clone(xmlNode *domain, const struct clone_spec *spec, struct err *err)
{
	cleanup_free char *old_name = xml_text(xml_child(domain, "name"));
	struct clone_devices devices = {
		spec->name, old_name, spec->overlays, spec->n_overlays,
	};
	int r;

	set_ids(domain, spec);
	set_metadata(domain, spec);
	drop_live_labels(domain);
	r = set_firmware(domain, spec->nvram, err);
	if (r >= 0)
		r = clone_devices_set(domain, &devices, err);
	return r < 0 ? r : clone_identity_set(domain, spec->user_data, spec->meta, err);
}

int clone_xml_build(const char *xml, const struct clone_spec *spec, char **ret, struct err *err)
{
	cleanup(xml_doc_free_p) xmlDoc *doc = NULL;
	xmlNode *domain;
	int r = xml_doc_parse(xml, "domainsnapshot", &doc, err);

	if (r >= 0)
		r = xml_snapshot_definition(xmlDocGetRootElement(doc), &domain, err);
	if (r >= 0)
		r = make_clone(domain, spec, err);
	if (r >= 0)
		*ret = xml_print(domain);
	return r;
}

int clone_xml_rename(const char *xml, const char *name, char **ret, struct err *err)
{
	cleanup(xml_doc_free_p) xmlDoc *doc = NULL;
	cleanup_free char *old_name = NULL;
	struct clone_devices devices = { .name = name };
	xmlNode *domain;
	int r = xml_doc_parse(xml, "domain", &doc, err);

	if (r < 0)
		return r;
	domain = xmlDocGetRootElement(doc);
	old_name = xml_text(xml_child(domain, "name"));
	devices.old_name = old_name;
	xml_set_child_text(domain, "name", name);
	r = clone_devices_rename(domain, &devices, err);
	if (r < 0)
		return r;
	clone_identity_rename(domain);
	*ret = xml_print(domain);
	return 0;
}
