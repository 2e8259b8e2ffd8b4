/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The devices of a clone, by a table of what is done to which. A device that names something of
 * the host's which only one VM can have (a file that it writes, a port that it listens on, a
 * piece of hardware) gets one of its own where that means nothing to the guest: a file
 * called after the clone, or what libvirt makes up. Where it does, the clone is refused, for it
 * would be another machine without. All that is only read is shared, and whatever is not in
 * the table is as it was.
 *
 * A file is called after the clone by its name at the end, after a dot, in the place of the
 * source's if that is there: so a clone of a clone has one name there, and one that is renamed,
 * too.
 */
#include "engine/clone-devices.h"

#include "common/mem.h"
#include "engine/clone-identity.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/un.h>

typedef int device_fn(xmlNode *device, const struct clone_devices *c, struct err *err);

#define refuse(err, ...) err_set(err, EOPNOTSUPP, __VA_ARGS__)

static bool has(xmlNode *node, const char *attribute, const char *value)
{
	cleanup_free char *found = xml_attribute(node, attribute);

	return found && strcmp(found, value) == 0;
}

static bool is_one_of(const char *word, const char *const *words)
{
	for (; *words; words++)
		if (streq(word, *words))
			return true;
	return false;
}

/* ---- files ---- */

/* The length of `path` without a name after the last dot. */
static size_t length_without(const char *path, const char *name)
{
	cleanup_free char *end = xasprintf(".%s", name);
	size_t n = strlen(path), m = strlen(end);

	return n > m && streq(path + n - m, end) ? n - m : n;
}

static int own_file(xmlNode *node, const char *attribute, size_t max, const struct clone_devices *c,
		    struct err *err)
{
	cleanup_free char *path = xml_attribute(node, attribute);
	cleanup_free char *own = NULL;
	const char *name;

	if (!path || streq(path, "/dev/null"))
		return 0;
	own = xasprintf("%.*s.%s", (int)length_without(path, c->old_name), path, c->name);
	name = strrchr(own, '/') ? strrchr(own, '/') + 1 : own;
	if (strlen(own) > max || strlen(name) > NAME_MAX)
		return err_set(err, ENAMETOOLONG, "the clone's own file in the place of %s would have "
			       "too long a name: %s", path, own);
	xml_set_attribute(node, attribute, own);
	return 0;
}

/* Only one that has the old name. */
static int rename_file(xmlNode *node, const char *attribute, size_t max,
		       const struct clone_devices *c, struct err *err)
{
	cleanup_free char *path = xml_attribute(node, attribute);

	if (!path || length_without(path, c->old_name) == strlen(path))
		return 0;
	return own_file(node, attribute, max, c, err);
}

/* ---- disks ---- */

static const struct overlay *overlay_of(const struct clone_devices *c, const char *target)
{
	for (size_t i = 0; i < c->n_overlays; i++)
		if (streq(c->overlays[i].target, target))
			return &c->overlays[i];
	return NULL;
}

/* All that was said of the source goes with it, but for how the file is labelled. */
static void put_overlay(xmlNode *disk, const char *path)
{
	xmlNode *old = xml_child(disk, "source"), *source, *label;

	xml_remove(xml_child(disk, "backingStore"));
	xml_remove(xml_child(disk, "mirror"));
	xml_remove(xml_child(disk, "auth"));
	xml_set_attribute(disk, "type", "file");
	xml_set_attribute(xml_child_or_new(disk, "driver"), "type", "qcow2");
	source = xml_add(disk, "source");
	xml_set_attribute(source, "file", path);
	while ((label = xml_child(old, "seclabel"))) {
		xmlUnlinkNode(label);
		xmlAddChild(source, label);
	}
	xml_remove(old);
}

static int check_shared_disk(xmlNode *disk, const char *target, struct err *err)
{
	static const char *const exclusive[] = { "nvme", "vhostuser", "vhostvdpa", NULL };
	cleanup_free char *type = xml_attribute(disk, "type");

	if (has(disk, "device", "lun") || is_one_of(type, exclusive))
		return refuse(err, "disk '%s' is a device of the host, which two VMs cannot both "
			      "have", target);
	if (!xml_child(disk, "source") || xml_child(disk, "readonly"))
		return 0;
	return refuse(err, "disk '%s' is no part of the snapshot, and two VMs would write to it",
		      target);
}

static int set_disk(xmlNode *disk, const struct clone_devices *c, struct err *err)
{
	cleanup_free char *target = xml_attribute(xml_child(disk, "target"), "dev");
	const struct overlay *o = overlay_of(c, target);

	if (!o || !o->path) {
		xml_remove(xml_child(disk, "backingStore")); /* it may be another by now */
		return check_shared_disk(disk, target, err);
	}
	put_overlay(disk, o->path);
	return 0;
}

static int set_filesystem(xmlNode *fs, const struct clone_devices *c, struct err *err)
{
	cleanup_free char *target = xml_attribute(xml_child(fs, "target"), "dir");
	cleanup_free char *socket = xml_attribute(xml_child(fs, "source"), "socket");

	if (has(fs, "type", "ram") || (xml_child(fs, "readonly") && !socket))
		return 0;
	return refuse(err, "filesystem '%s' can be written, and two VMs would share it", target);
}

/* ---- network ---- */

static const char *why_not_interface(xmlNode *interface)
{
	static const char *const exclusive[] = {
		"hostdev", "vdpa", "vhostuser", "server", "client", "udp", NULL,
	};
	cleanup_free char *type = xml_attribute(interface, "type");

	if (is_one_of(type, exclusive))
		return "is something of the host's, which two VMs cannot both have";
	if (streq(type, "direct") && has(xml_child(interface, "source"), "mode", "passthrough"))
		return "has a device of the host for itself";
	if (streq(type, "ethernet") && has(xml_child(interface, "target"), "managed", "no"))
		return "is on a tap device that is there already, and two VMs cannot both have it";
	if (xml_child(interface, "portForward"))
		return "forwards ports of the host, which two VMs cannot both have";
	return NULL;
}

/* One that filters by its own address must go on doing so. */
static void set_filter_address(xmlNode *interface, const char *mac)
{
	xmlNode *p = xml_child(xml_child(interface, "filterref"), "parameter");

	for (; p; p = xml_next(p, "parameter"))
		if (has(p, "name", "MAC"))
			xml_set_attribute(p, "value", mac);
}

static void set_address(xmlNode *interface, const struct clone_devices *c, unsigned number)
{
	char mac[MAC_SIZE];

	clone_mac(c->name, number, mac);
	xml_set_attribute(xml_child_or_new(interface, "mac"), "address", mac);
	set_filter_address(interface, mac);
}

static unsigned number_of(xmlNode *device)
{
	unsigned n = 0;

	for (xmlNode *d = xml_child(device->parent, (const char *)device->name); d != device;
	     d = xml_next(d, (const char *)device->name))
		n++;
	return n;
}

static int set_interface(xmlNode *interface, const struct clone_devices *c, struct err *err)
{
	xmlNode *port = xml_child(xml_child(interface, "virtualport"), "parameters");
	const char *why = why_not_interface(interface);

	if (why) {
		cleanup_free char *mac = xml_attribute(xml_child(interface, "mac"), "address");

		return refuse(err, "interface %s %s", mac, why);
	}
	xml_remove(xml_child(interface, "target"));
	xml_drop_attribute(xml_child(interface, "source"), "portid");
	xml_drop_attribute(port, "interfaceid");
	xml_drop_attribute(port, "instanceid");
	set_address(interface, c, number_of(interface));
	return own_file(xml_child(interface, "backend"), "logFile", PATH_MAX - 1, c, err);
}

static int rename_interface(xmlNode *interface, const struct clone_devices *c, struct err *err)
{
	set_address(interface, c, number_of(interface));
	return rename_file(xml_child(interface, "backend"), "logFile", PATH_MAX - 1, c, err);
}

/* ---- character devices ---- */

static int set_socket(xmlNode *device, xmlNode *source, const struct clone_devices *c,
		      struct err *err)
{
	struct sockaddr_un address;

	/* One who connects is one more client of a server that was there before. */
	if (!has(source, "mode", "bind"))
		return 0;
	if (xmlStrcmp(device->name, (const xmlChar *)"channel") == 0 &&
	    has(xml_child(device, "target"), "type", "virtio")) {
		xml_drop_attribute(source, "path"); /* libvirt makes one up */
		return 0;
	}
	return own_file(source, "path", sizeof(address.sun_path) - 1, c, err);
}

static int check_port(xmlNode *device, xmlNode *source, struct err *err)
{
	cleanup_free char *port = xml_attribute(source, "service");

	if (!has(source, "mode", "bind") || !port)
		return 0;
	return refuse(err, "%s device listens on port %s of the host, and two VMs cannot",
		      device->name, port);
}

static int set_source(xmlNode *device, xmlNode *source, const struct clone_devices *c,
		      struct err *err)
{
	static const char *const exclusive[] = { "dev", "pipe", "nmdm", NULL };
	cleanup_free char *type = xml_attribute(device, "type");

	if (is_one_of(type, exclusive)) {
		cleanup_free char *path = xml_attribute(source, "path");

		return refuse(err, "%s device is %s of the host, which two VMs cannot both have",
			      device->name, path);
	}
	if (streq(type, "pty"))
		xml_drop_attribute(source, "path");
	if (streq(type, "file"))
		return own_file(source, "path", PATH_MAX - 1, c, err);
	if (streq(type, "unix"))
		return set_socket(device, source, c, err);
	if (streq(type, "tcp") || streq(type, "udp"))
		return check_port(device, source, err);
	return 0;
}

static int set_chardev(xmlNode *device, const struct clone_devices *c, struct err *err)
{
	int r = own_file(xml_child(device, "log"), "file", PATH_MAX - 1, c, err);

	xml_drop_attribute(device, "tty");
	for (xmlNode *s = xml_child(device, "source"); s && r >= 0; s = xml_next(s, "source"))
		r = set_source(device, s, c, err);
	return r;
}

static int rename_chardev(xmlNode *device, const struct clone_devices *c, struct err *err)
{
	struct sockaddr_un address;
	bool is_socket = has(device, "type", "unix");
	xmlNode *source = xml_child(device, "source");
	int r = rename_file(xml_child(device, "log"), "file", PATH_MAX - 1, c, err);

	if (r < 0 || (is_socket && !has(source, "mode", "bind")))
		return r;
	return rename_file(source, "path",
			   is_socket ? sizeof(address.sun_path) - 1 : PATH_MAX - 1, c, err);
}

static int set_smartcard(xmlNode *card, const struct clone_devices *c, struct err *err)
{
	if (has(card, "mode", "host"))
		return refuse(err, "the smartcard is that of the host, which two VMs cannot both have");
	return set_chardev(card, c, err);
}

static int set_rng(xmlNode *rng, const struct clone_devices *c, struct err *err)
{
	xmlNode *backend = xml_child(rng, "backend");

	return has(backend, "model", "egd") ? set_chardev(backend, c, err) : 0;
}

/* ---- what is seen of the VM ---- */

static void set_listens(xmlNode *graphics)
{
	for (xmlNode *l = xml_child(graphics, "listen"); l; l = xml_next(l, "listen"))
		if (has(l, "type", "socket"))
			xml_drop_attribute(l, "socket"); /* libvirt makes one up */
}

static int set_graphics(xmlNode *graphics, const struct clone_devices *c, struct err *err)
{
	static const char *const served[] = { "vnc", "spice", "rdp", NULL };
	cleanup_free char *type = xml_attribute(graphics, "type");
	cleanup_free char *websocket = xml_attribute(graphics, "websocket");

	if (!is_one_of(type, served))
		return 0;
	xml_drop_attribute(graphics, "port");
	xml_drop_attribute(graphics, "tlsPort");
	xml_drop_attribute(graphics, "socket");
	xml_set_attribute(graphics, "autoport", "yes");
	if (websocket)
		xml_set_attribute(graphics, "websocket", "-1");
	set_listens(graphics);
	return 0;
}

static int set_audio(xmlNode *audio, const struct clone_devices *c, struct err *err)
{
	return own_file(audio, "path", PATH_MAX - 1, c, err);
}

static int rename_audio(xmlNode *audio, const struct clone_devices *c, struct err *err)
{
	return rename_file(audio, "path", PATH_MAX - 1, c, err);
}

static int set_vsock(xmlNode *vsock, const struct clone_devices *c, struct err *err)
{
	xmlNode *cid = xml_child_or_new(vsock, "cid");

	xml_drop_attribute(cid, "address");
	xml_set_attribute(cid, "auto", "yes");
	return 0;
}

/* ---- hardware, and what else there is one of ---- */

/* As lspci and libvirt have it: 0000:03:00.0. */
static char *pci_address(xmlNode *address)
{
	static const char *const parts[] = { "domain", "bus", "slot", "function" };
	unsigned long n[4] = { 0 };

	for (size_t i = 0; i < 4; i++) {
		cleanup_free char *text = xml_attribute(address, parts[i]);

		n[i] = text ? strtoul(text, NULL, 0) : 0;
	}
	return xasprintf("%04lx:%02lx:%02lx.%lx", n[0], n[1], n[2], n[3]);
}

/* Whatever of a device says best which one it is. */
static char *source_words(xmlNode *source)
{
	static const char *const places[][2] = {
		{ "address", "uuid" }, { "adapter", "name" }, { "product", "id" },
		{ "address", "device" },
	};

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		char *found = xml_attribute(xml_child(source, places[i][0]), places[i][1]);

		if (found)
			return found;
	}
	return xstrdup("");
}

static int refuse_hostdev(xmlNode *device, const struct clone_devices *c, struct err *err)
{
	xmlNode *source = xml_child(device, "source");
	cleanup_free char *type = xml_attribute(device, "type");
	cleanup_free char *words = streq(type, "pci") ? pci_address(xml_child(source, "address"))
						      : source_words(source);

	return refuse(err, "the VM has the host's %s device %s, which two VMs cannot both have", type,
		      words);
}

static int check_input(xmlNode *input, const struct clone_devices *c, struct err *err)
{
	xmlNode *source = xml_child(input, "source");
	cleanup_free char *evdev = xml_attribute(source, "evdev");
	cleanup_free char *dev = xml_attribute(source, "dev");

	if (!evdev && !dev)
		return 0;
	return refuse(err, "the VM has the host's input device %s, which two VMs cannot both have",
		      evdev ? evdev : dev);
}

/* What an emulated one remembers is kept by libvirt, by UUID: the clone has a new one. */
static int set_tpm(xmlNode *tpm, const struct clone_devices *c, struct err *err)
{
	xmlNode *backend = xml_child(tpm, "backend");
	cleanup_free char *type = xml_attribute(backend, "type");

	if (!streq(type, "emulator"))
		return refuse(err, "the VM's TPM is one of the host's (%s), which two VMs cannot both "
			      "have", type);
	xml_remove(xml_child(backend, "source"));
	return 0;
}

static int check_memory(xmlNode *memory, const struct clone_devices *c, struct err *err)
{
	static const char *const lasting[] = { "nvdimm", "virtio-pmem", NULL };
	cleanup_free char *model = xml_attribute(memory, "model");
	cleanup_free char *path = xml_text(xml_child(xml_child(memory, "source"), "path"));

	if (!is_one_of(model, lasting) || has(memory, "access", "private") ||
	    xml_child(xml_child(memory, "target"), "readonly"))
		return 0;
	return refuse(err, "%s device %s can be written, and two VMs would share it", model, path);
}

static int refuse_shmem(xmlNode *shmem, const struct clone_devices *c, struct err *err)
{
	cleanup_free char *name = xml_attribute(shmem, "name");

	return refuse(err, "shared memory '%s' would be shared by one VM more", name);
}

static int refuse_lease(xmlNode *lease, const struct clone_devices *c, struct err *err)
{
	cleanup_free char *key = xml_text(xml_child(lease, "key"));

	return refuse(err, "the VM has the lease '%s', which two VMs cannot both have", key);
}

/* ---- all of them ---- */

static const struct device {
	const char *element;
	device_fn *set;
	device_fn *rename;
} devices[] = {
	{ "disk", set_disk, NULL },
	{ "filesystem", set_filesystem, NULL },
	{ "interface", set_interface, rename_interface },
	{ "serial", set_chardev, rename_chardev },
	{ "parallel", set_chardev, rename_chardev },
	{ "console", set_chardev, rename_chardev },
	{ "channel", set_chardev, rename_chardev },
	{ "redirdev", set_chardev, rename_chardev },
	{ "smartcard", set_smartcard, rename_chardev },
	{ "rng", set_rng, NULL },
	{ "graphics", set_graphics, NULL },
	{ "audio", set_audio, rename_audio },
	{ "vsock", set_vsock, NULL },
	{ "hostdev", refuse_hostdev, NULL },
	{ "input", check_input, NULL },
	{ "tpm", set_tpm, NULL },
	{ "memory", check_memory, NULL },
	{ "shmem", refuse_shmem, NULL },
	{ "lease", refuse_lease, NULL },
};

/* Of a VM that ran; those that begin with ua- are its admin's. */
static void drop_alias(xmlNode *device)
{
	xmlNode *alias = xml_child(device, "alias");
	cleanup_free char *name = xml_attribute(alias, "name");

	if (name && strncmp(name, "ua-", 3) != 0)
		xml_remove(alias);
}

static int each_device(xmlNode *domain, const struct clone_devices *c, bool rename,
		       struct err *err)
{
	xmlNode *parent = xml_child(domain, "devices");
	int r = 0;

	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
		device_fn *fn = rename ? devices[i].rename : devices[i].set;
		xmlNode *d = fn ? xml_child(parent, devices[i].element) : NULL;

		for (; d && r >= 0; d = xml_next(d, devices[i].element))
			r = fn(d, c, err);
	}
	return r;
}

int clone_devices_set(xmlNode *domain, const struct clone_devices *c, struct err *err)
{
	xmlNode *parent = xml_child(domain, "devices");

	for (xmlNode *d = parent ? parent->children : NULL; d; d = d->next)
		drop_alias(d);
	return each_device(domain, c, false, err);
}

int clone_devices_rename(xmlNode *domain, const struct clone_devices *c, struct err *err)
{
	return each_device(domain, c, true, err);
}
