/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads the definition of a clone, and prints that of the same one under the name that is given. */
#include "common/cleanup.h"
#include "engine/clone-xml.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	struct err err = ERR_INIT;
	cleanup_free char *xml = NULL;
	cleanup_free char *renamed = NULL;
	size_t size = 0;

	if (argc != 2 || getdelim(&xml, &size, '\0', stdin) < 0)
		return 2;
	if (clone_xml_rename(xml, argv[1], &renamed, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		return 1;
	}
	fputs(renamed, stdout);
	return 0;
}
