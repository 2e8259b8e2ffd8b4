/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one call to libvirt that a mkdir cannot do without, and nothing else: what verbs
 * compares mkdir with. The connection is open and the overlay is there.
 *
 *   bare-snapshot URI DOMAIN TARGET
 *
 * reads lines of a snapshot's name and its overlay's path, takes each snapshot, and says how
 * many milliseconds that took.
 */
#include <libvirt/libvirt.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

int main(int argc, char **argv)
{
	const unsigned flags = VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY |
			       VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC |
			       VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT;
	char name[256], path[4096];
	virConnectPtr connection = argc == 4 ? virConnectOpen(argv[1]) : NULL;
	virDomainPtr domain = connection ? virDomainLookupByName(connection, argv[2]) : NULL;

	if (!domain) {
		fprintf(stderr, "usage: bare-snapshot URI DOMAIN TARGET\n");
		return EXIT_FAILURE;
	}
	while (scanf("%255s %4095s", name, path) == 2) {
		virDomainSnapshotPtr snapshot;
		char xml[8192];
		double begin;

		snprintf(xml, sizeof(xml), "<domainsnapshot><name>%s</name><disks><disk name='%s'"
			 " snapshot='external' type='file'><driver type='qcow2'/><source file='%s'/>"
			 "</disk></disks></domainsnapshot>", name, argv[3], path);
		begin = now_ms();
		snapshot = virDomainSnapshotCreateXML(domain, xml, flags);
		if (!snapshot)
			return EXIT_FAILURE; /* libvirt has said why */
		printf("%.3f\n", now_ms() - begin);
		fflush(stdout);
		virDomainSnapshotFree(snapshot);
	}
	virDomainFree(domain);
	virConnectClose(connection);
	return EXIT_SUCCESS;
}
