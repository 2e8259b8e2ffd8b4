/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/macs-xml.h"

#include "common/mem.h"
#include "engine/xml-tree.h"

#include <strings.h>

int macs_read(const char *domain_xml, struct macs *ret, struct err *err)
{
	cleanup(xml_doc_free_p) xmlDoc *doc = NULL;
	struct macs macs = { 0 };
	xmlNode *interface;
	int r = xml_doc_parse(domain_xml, "domain", &doc, err);

	if (r < 0)
		return r;
	interface = xml_child(xml_child(xmlDocGetRootElement(doc), "devices"), "interface");
	for (; interface; interface = xml_next(interface, "interface")) {
		char *mac = xml_attribute(xml_child(interface, "mac"), "address");

		if (!mac)
			continue;
		macs.at = xreallocarray(macs.at, macs.n + 1, sizeof(*macs.at));
		macs.at[macs.n++] = mac;
	}
	*ret = macs;
	return 0;
}

void macs_clear(struct macs *macs)
{
	for (size_t i = 0; i < macs->n; i++)
		free(macs->at[i]);
	free(macs->at);
	*macs = (struct macs){ 0 };
}

const char *macs_common(const struct macs *a, const struct macs *b)
{
	for (size_t i = 0; i < a->n; i++)
		for (size_t j = 0; j < b->n; j++)
			if (strcasecmp(a->at[i], b->at[j]) == 0)
				return a->at[i];
	return NULL;
}
