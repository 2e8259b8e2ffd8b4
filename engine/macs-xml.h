/* SPDX-License-Identifier: GPL-2.0-or-later */
/* By what a VM is known on its networks: the MAC addresses in its definition. */
#ifndef KWS_ENGINE_MACS_XML_H
#define KWS_ENGINE_MACS_XML_H

#include "common/err.h"

#include <stddef.h>

struct macs {
	char **at; /* as libvirt writes them: "52:54:00:12:34:56" */
	size_t n;
};

int macs_read(const char *domain_xml, struct macs *ret, struct err *err);
void macs_clear(struct macs *macs);
/* One that both have, NULL if there is none. */
const char *macs_common(const struct macs *a, const struct macs *b);

#endif
