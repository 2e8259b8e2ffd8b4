/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/xml-tree.h"

#include "common/mem.h"

#include <errno.h>
#include <libxml/parser.h>
#include <libxml/xmlsave.h>

#define U(s) ((const xmlChar *)(s))

/* libxml2 allocates with its own allocator: what leaves here is free()'s. */
static char *own(xmlChar *s)
{
	char *copy = xstrdup((const char *)s);

	xmlFree(s);
	return copy;
}

/* libxml2 sets itself up at its first use, and not well if that is by two threads at once. */
static pthread_once_t once = PTHREAD_ONCE_INIT;

int xml_doc_parse(const char *xml, const char *root, xmlDoc **ret, struct err *err)
{
	const xmlError *why;
	xmlParserCtxt *context;
	xmlDoc *doc;
	int r = 0;

	pthread_once(&once, xmlInitParser);
	context = xmlNewParserCtxt();
	doc = xmlCtxtReadDoc(context, U(xml), NULL, NULL,
			     XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING |
			     XML_PARSE_NOBLANKS | XML_PARSE_HUGE);
	why = xmlCtxtGetLastError(context);
	if (!doc)
		r = err_set(err, EINVAL, "libvirt's XML cannot be read: %.200s",
			    why && why->message ? why->message : "out of memory");
	else if (!xmlDocGetRootElement(doc) ||
		 xmlStrcmp(xmlDocGetRootElement(doc)->name, U(root)) != 0)
		r = err_set(err, EINVAL, "libvirt's XML is no <%s>", root);
	xmlFreeParserCtxt(context);
	if (r < 0) {
		if (doc)
			xmlFreeDoc(doc);
		return r;
	}
	*ret = doc;
	return 0;
}

static xmlNode *first_of(xmlNode *node, const char *name)
{
	while (node && (node->type != XML_ELEMENT_NODE || node->ns ||
			xmlStrcmp(node->name, U(name)) != 0))
		node = node->next;
	return node;
}

xmlNode *xml_child(xmlNode *node, const char *name)
{
	return node ? first_of(node->children, name) : NULL;
}

xmlNode *xml_next(xmlNode *node, const char *name)
{
	return first_of(node->next, name);
}

xmlNode *xml_add(xmlNode *node, const char *name)
{
	return xmlNewChild(node, NULL, U(name), NULL);
}

xmlNode *xml_child_or_new(xmlNode *node, const char *name)
{
	xmlNode *child = xml_child(node, name);

	return child ? child : xml_add(node, name);
}

void xml_remove(xmlNode *node)
{
	if (!node)
		return;
	xmlUnlinkNode(node);
	xmlFreeNode(node);
}

char *xml_attribute(xmlNode *node, const char *name)
{
	return node ? own(xmlGetNoNsProp(node, U(name))) : NULL;
}

char *xml_text(xmlNode *node)
{
	return node ? own(xmlNodeGetContent(node)) : NULL;
}

void xml_set_attribute(xmlNode *node, const char *name, const char *value)
{
	xmlSetProp(node, U(name), U(value));
}

void xml_drop_attribute(xmlNode *node, const char *name)
{
	if (node)
		xmlUnsetNsProp(node, NULL, U(name));
}

void xml_set_text(xmlNode *node, const char *text)
{
	xmlNodeSetContent(node, NULL);
	/* Not xmlNodeSetContent: that one would read entities in the text. */
	xmlAddChild(node, xmlNewText(U(text)));
}

void xml_set_child_text(xmlNode *node, const char *name, const char *text)
{
	xml_set_text(xml_child_or_new(node, name), text);
}

char *xml_print(xmlNode *node)
{
	xmlBuffer *buffer = xmlBufferCreate();
	xmlSaveCtxt *save = xmlSaveToBuffer(buffer, "UTF-8", XML_SAVE_FORMAT | XML_SAVE_NO_DECL);
	char *text;

	xmlSaveTree(save, node);
	xmlSaveClose(save);
	text = xasprintf("%s\n", (const char *)xmlBufferContent(buffer));
	xmlBufferFree(buffer);
	return text;
}
