/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Features in a domain's XML: those that are kept in its metadata, as
 *
 *   <kwsfs:features xmlns:kwsfs="urn:kwsfs:features">
 *     <feature category="database">MySQL</feature>
 *     <feature category="os" source="agent">Ubuntu 20.04</feature>
 *   </kwsfs:features>
 *
 * and those that the definition says by itself. Others write there, too: with `virsh metadata`,
 * whose elements have no namespace within ours, or by hand, where they may have it, and values may
 * stand on lines of their own. What is no feature is left out.
 */
#include "engine/feature-set.h"
#include "engine/xml-tree.h"

#include "common/mem.h"

static bool is_in(const xmlNode *node, const char *namespace)
{
	return node->ns && streq((const char *)node->ns->href, namespace);
}

static bool is_feature(const xmlNode *node)
{
	return node->type == XML_ELEMENT_NODE && streq((const char *)node->name, "feature") &&
	       (!node->ns || is_in(node, FEATURES_NAMESPACE));
}

/* What was written by hand may be too much, too. */
static void add_kept(xmlNode *node, struct feature_set *set)
{
	cleanup_free char *category = xml_attribute(node, "category");
	cleanup_free char *source = xml_attribute(node, "source");
	cleanup_free char *value = xml_text(node);

	if (value)
		feature_squeeze(value);
	if (category && feature_check(category, value, NULL) >= 0 && set->n < 2 * FEATURES_MAX)
		feature_set_add(set, category, value,
				streq(source, "agent") ? FEATURE_AGENT : FEATURE_WRITTEN);
}

static void add_all_kept(xmlNode *metadata, struct feature_set *set)
{
	for (xmlNode *n = metadata ? metadata->children : NULL; n; n = n->next) {
		if (n->type != XML_ELEMENT_NODE || !is_in(n, FEATURES_NAMESPACE))
			continue;
		for (xmlNode *f = n->children; f; f = f->next)
			if (is_feature(f))
				add_kept(f, set);
	}
}

/* Those that a VM has now, if it may get more. */
static void add_cpus(xmlNode *domain, struct feature_set *set)
{
	xmlNode *vcpu = xml_child(domain, "vcpu");
	cleanup_free char *current = xml_attribute(vcpu, "current");
	cleanup_free char *most = xml_text(vcpu);

	if (current || most)
		feature_set_add(set, "cpu", current ? current : most, FEATURE_DOMAIN);
}

/* Not what a balloon leaves of it at the moment. libvirt says it in KiB. */
static void add_memory(xmlNode *domain, struct feature_set *set)
{
	cleanup_free char *kib = xml_text(xml_child(domain, "memory"));
	cleanup_free char *size = feature_size(kib ? strtoull(kib, NULL, 10) << 10 : 0, 'M');

	if (kib)
		feature_set_add(set, "memory", size, FEATURE_DOMAIN);
}

void xml_features(xmlNode *domain, struct feature_set *ret)
{
	*ret = (struct feature_set){ 0 };
	add_all_kept(xml_child(domain, "metadata"), ret);
	add_cpus(domain, ret);
	add_memory(domain, ret);
	feature_set_sort(ret);
}

char *features_to_xml(const struct feature_set *set)
{
	xmlDoc *doc = xmlNewDoc((const xmlChar *)"1.0");
	xmlNode *root = xmlNewDocNode(doc, NULL, (const xmlChar *)"features", NULL);
	char *text;

	xmlDocSetRootElement(doc, root);
	for (size_t i = 0; i < set->n; i++) {
		const struct feature *f = &set->features[i];
		xmlNode *node;

		if (f->source == FEATURE_DOMAIN)
			continue;
		node = xml_add(root, "feature");
		xml_set_attribute(node, "category", f->category);
		if (f->source == FEATURE_AGENT)
			xml_set_attribute(node, "source", "agent");
		xml_set_text(node, f->value);
	}
	text = root->children ? xml_print(root) : xstrdup("");
	xmlFreeDoc(doc);
	return text;
}
