/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The little of libxml2 that the other files with XML in their names need, put handily. */
#ifndef KWS_ENGINE_XML_TREE_H
#define KWS_ENGINE_XML_TREE_H

#include "common/cleanup.h"
#include "engine/domain-xml.h"

#include <libxml/tree.h>

/* Parses a document with the root element `root`; no network, no entities of
 * its own. -EINVAL with libxml2's words. */
int xml_doc_parse(const char *xml, const char *root, xmlDoc **ret, struct err *err);

static inline void xml_doc_free_p(xmlDoc **doc)
{
	if (*doc)
		xmlFreeDoc(*doc);
}

/* The first child of that name, NULL if there is none, or no `node`. */
xmlNode *xml_child(xmlNode *node, const char *name);
/* The next sibling of that name. */
xmlNode *xml_next(xmlNode *node, const char *name);
xmlNode *xml_child_or_new(xmlNode *node, const char *name);
xmlNode *xml_add(xmlNode *node, const char *name);
/* Takes a node out and frees it; NULL is allowed. */
void xml_remove(xmlNode *node);

/* These are NULL if there is no such thing; the caller frees them. */
char *xml_attribute(xmlNode *node, const char *name);
char *xml_text(xmlNode *node);

void xml_set_attribute(xmlNode *node, const char *name, const char *value);
void xml_drop_attribute(xmlNode *node, const char *name); /* no `node`, or none of it, is fine */
/* The node's text in the place of all that is in it. */
void xml_set_text(xmlNode *node, const char *text);
/* The same for a child, which is made if need be. */
void xml_set_child_text(xmlNode *node, const char *name, const char *text);

/* The element as a document of its own, without an XML declaration. */
char *xml_print(xmlNode *node);

/* ---- of snapshot-xml.c ---- */

/* The definition of the VM in a <domainsnapshot>: its <inactiveDomain> if there is one, which
 * is renamed, else its <domain>. -ENOENT. */
int xml_snapshot_definition(xmlNode *root, xmlNode **ret, struct err *err);

/* ---- of features-xml.c ---- */

/* All that a domain's XML says: what is kept in its metadata, and cpu and memory. Sorted. */
void xml_features(xmlNode *domain, struct feature_set *ret);

/* ---- of domain-xml.c, for snapshot-xml.c ---- */

struct domain_xml *domain_from_node(xmlNode *domain);
void xml_disk_clear(struct xml_disk *d);
/* Tells whether there was anything to rename. */
bool xml_rename_in_domain(xmlNode *domain, const struct xml_rename *renames, size_t n);

#endif
