package portable

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lintCase is an image with something wrong, and all that is to be said of it.
// Nothing is to be said of cases that a rule must leave alone.
type lintCase struct {
	f    fixture
	want []string
	o    LintOptions
	ref  Ref
}

func strict(f fixture, want ...string) lintCase {
	return lintCase{f: f, want: want, o: LintOptions{Profile: "strict"}}
}
func nonetwork(f fixture, want ...string) lintCase {
	return lintCase{f: f, want: want, o: LintOptions{Profile: "nonetwork"}}
}
func trusted(f fixture, want ...string) lintCase {
	return lintCase{f: f, want: want, o: LintOptions{Profile: "trusted"}}
}
func plain(f fixture, want ...string) lintCase { return lintCase{f: f, want: want} }
func prefixed(f fixture, prefix string, want ...string) lintCase {
	return lintCase{f: f, want: want, ref: Ref{Prefixes: []string{prefix}}}
}
func extended(f fixture, want ...string) lintCase {
	f[extensionDir+"usr/lib/extension-release.d/extension-release.more"] += "ID=web\nVERSION_ID=3\n"
	return lintCase{f: f, want: want, ref: Ref{Extensions: []string{"/srv/more"}}}
}

const (
	extensionDir = "srv/more/"
	releaseFile  = fixtureImage + "usr/lib/os-release"
	oneMore      = "[Service]\nExecStart=sh\n[Install]\nWantedBy=multi-user.target\n"
)

var releaseCases = map[string]lintCase{
	"os-release, none":        plain(good().without(releaseFile).without(fixtureImage+"etc/os-release"), "error os-release-missing /usr/lib/os-release"),
	"os-release, only a link": plain(good().without(releaseFile), "error os-release-missing /usr/lib/os-release"),
	"os-release, in etc only": plain(good().without(releaseFile).without(fixtureImage+"etc/os-release").with(fixtureImage+"etc/os-release", good()[releaseFile])),
	"os-release, broken":      plain(good().replace(releaseFile, "ID=web\n", "ID=web\nID=\"\n"), "error os-release-invalid /etc/os-release:2"),
	"os-release, no file":     plain(good().without(releaseFile).with(releaseFile+"/", ""), "error os-release-invalid /etc/os-release"),
	"os-release, no ID":       plain(good().replace(releaseFile, "ID=web\nVERSION_ID", "VERSION_ID"), "error os-release-id /etc/os-release"),
	"os-release, no version":  plain(good().replace(releaseFile, "VERSION_ID=3\n", ""), "note os-release-version /etc/os-release"),
	"os-release, build only":  plain(good().replace(releaseFile, "VERSION_ID=3\n", "BUILD_ID=3\n")),
	"no pretty name":          plain(good().replace(releaseFile, "PORTABLE_PRETTY_NAME", "PRETTY_NAME"), "note portable-name-unset /etc/os-release"),
	"no prefixes":             plain(good().replace(releaseFile, "PORTABLE_PREFIXES=web\n", ""), "warning portable-prefixes-unset /etc/os-release"),
	"other prefixes": plain(good().replace(releaseFile, "PORTABLE_PREFIXES=web", "PORTABLE_PREFIXES=\"web-report web.service\""),
		"error portable-prefixes-mismatch /etc/os-release"),
	"more prefixes":          plain(good().replace(releaseFile, "PORTABLE_PREFIXES=web", "PORTABLE_PREFIXES=\"web wbe\""), "warning portable-prefixes-unused /etc/os-release"),
	"machine ID":             plain(good().with(fixtureImage+"etc/machine-id", "0123\n"), "warning machine-id /etc/machine-id"),
	"machine ID, to be made": plain(good().with(fixtureImage+"etc/machine-id", "uninitialized\n")),

	"extension":             extended(fixture.with(good(), extensionDir+"usr/lib/systemd/system/web-x.service", oneMore)),
	"extension, no ID":      extended(good().with(extensionDir+"usr/lib/extension-release.d/extension-release.more", "ID=x\n#"), "error extension-mismatch"),
	"extension, os-release": extended(good().with(extensionDir+"usr/lib/os-release", "ID=x\n"), "error extension-release-invalid"),
	"extension, clash": extended(good().with(extensionDir+"usr/lib/systemd/system/web.socket", "[Socket]\n"),
		"warning unit-clash web.socket"),
	"extension brings program":        extended(good().without(fixtureImage+"usr/bin/web").with(extensionDir+"usr/bin/web", good()[fixtureImage+"usr/bin/web"])),
	"extension brings link":           extended(good().without(fixtureImage+"usr/bin/web").with(extensionDir+"usr/bin/web", "→../lib/w").with(fixtureImage+"usr/lib/w", good()[fixtureImage+"usr/bin/web"])),
	"extension brings what is linked": extended(good().without(fixtureImage+"usr/bin/web").with(fixtureImage+"usr/bin/web", "→/lib/w").with(extensionDir+"usr/lib/w", good()[fixtureImage+"usr/bin/web"])),
	"extension brings a loop": extended(good().without(fixtureImage+"usr/bin/web").with(fixtureImage+"usr/bin/web", "→/usr/lib/w/x").with(extensionDir+"usr/lib/w", "→/usr/bin/web/x"),
		"error exec-missing web-report@.service:3", "error exec-missing web.service:9"),
}

var unitCases = map[string]lintCase{
	"no units":                   plain(good().without(fixtureUnits), "error no-units", "warning portable-prefixes-unused /etc/os-release"),
	"no units of this prefix":    prefixed(good(), "wbe", "error no-units", "error portable-prefixes-mismatch /etc/os-release"),
	"all units":                  {f: good(), ref: Ref{Prefixes: []string{AllUnits}}},
	"name":                       plain(good().unit("web-a b.service", oneMore), "warning unit-name web-a b.service"),
	"type":                       plain(good().unit("web.mount", "[Mount]"), "warning unit-type web.mount"),
	"type of others":             plain(good().unit("data.mount", "[Mount]")),
	"other prefix":               plain(good().unit("wbe.service", oneMore), "warning unit-not-attached wbe.service"),
	"other prefix, much like it": plain(good().unit("webby.service", oneMore), "warning unit-not-attached webby.service"),
	"a whole system":             plain(good().unit("getty@.service", oneMore).with(fixtureImage+"var/lib/dpkg/status", "")),
	"on the host":                plain(good().with("etc/systemd/system/web.socket", "[Socket]\n"), "warning unit-exists web.socket"),
	"on the host, attached":      plain(good().with("etc/systemd/system.attached/web.socket", "[Socket]\n")),
	"directory":                  plain(good().unit("web-x.service/", ""), "error unit-irregular web-x.service"),
	"too large":                  plain(good().unit("web-x.service", strings.Repeat("#", maxUnit+1)), "error unit-irregular web-x.service"),
	"empty":                      plain(good().unit("web-x.service", ""), "warning unit-empty web-x.service"),
	"masked":                     plain(good().unit("web-x.service", "→/dev/null"), "warning unit-empty web-x.service"),
	"link out":                   plain(good().unit("web-x.service", "→/etc/passwd-").with("etc/passwd-", "x"), "error unit-link-broken web-x.service"),
	"link up and out":            plain(good().unit("web-x.service", "→../../../../../../../etc/group"), "error unit-link-broken web-x.service"),
	"absolute link":              plain(good().unit("web-x.service", "→/usr/lib/x").with(fixtureImage+"usr/lib/x", oneMore), "warning unit-link-absolute web-x.service"),
	"relative link":              plain(good().unit("web-x.service", "→../../x").with(fixtureImage+"usr/lib/x", oneMore)),
	"control characters":         plain(good().unit("web-x.service", "[Service]\n#\x1b[2J\nA=\xff\n"), "error unit-characters web-x.service:2", "error unit-characters web-x.service:3"),
	"line ends of others":        plain(good().unit("web-x.service", strings.ReplaceAll(oneMore, "\n", "\r\n"))),
	"syntax": plain(good().unit("web-x.service", oneMore+"[Sokcet]\nA=b\n[X-Sokcet]\n[Service]\nnonsense\n"),
		"warning unit-syntax web-x.service:5", "warning unit-syntax web-x.service:9"),
	"section of another type": plain(good().unit("web-x.timer", "[Timer]\nOnBootSec=1\nUnit=web.service\n[Service]\n[Install]\nWantedBy=timers.target\n"), "warning unit-syntax web-x.timer:4"),
	"section without end":     plain(good().unit("web-x.service", oneMore+"[Install\n"), "error unit-syntax web-x.service:5"),
	"drop-ins": plain(good().with(fixtureImage+"etc/systemd/system/web.service.d/10-x.conf", "[Service]").with(fixtureImage+"etc/systemd/system/web.socket.wants/x.service", ""),
		"warning drop-in-ignored /etc/systemd/system/web.service.d", "warning drop-in-ignored /etc/systemd/system/web.socket.wants"),
	"drop-ins of others":   plain(good().with(fixtureImage+"etc/systemd/system/x.service.d/10-x.conf", "[Service]").with(fixtureImage+"etc/systemd/system/multi-user.target.wants/web.service", "")),
	"specifier":            plain(good().service("web web", "web %z"), "error specifier web.service:9"),
	"specifier, not used":  plain(good().service("TITLE=a", "TITLE=%ä%q%z"), "warning specifier web.service:7"),
	"specifier, elsewhere": plain(good().service("Slice=", "CPUQuota=20%\nSlice=")),
	"quotes":               plain(good().service("web web", "web \"web"), "error value-syntax web.service:9"),
	"quotes, not used":     plain(good().service(" b\"", ""), "warning value-syntax web.service:7"),

	"no command":             plain(good().unit("web-x.service", "[Service]\n[Install]\nWantedBy=multi-user.target\n"), "error unit-incomplete web-x.service"),
	"no command any more":    plain(good().unit("web-x.service", oneMore+"[Service]\nExecStart=\n"), "error unit-incomplete web-x.service"),
	"only a command to stop": plain(good().unit("web-x.service", "[Service]\nType=oneshot\nExecStop=sh\n[Install]\nWantedBy=multi-user.target\n"), "error unit-incomplete web-x.service"),
	"stops":                  plain(good().unit("web-x.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStop=sh\n[Install]\nWantedBy=multi-user.target\n")),
	"no success":             plain(good().unit("web-x.service", "[Unit]\nSuccessAction=none\n[Service]\n[Install]\nWantedBy=multi-user.target\n"), "error unit-incomplete web-x.service"),
	"only a success":         plain(good().unit("web-x.service", "[Unit]\nSuccessAction=exit\n[Service]\n[Install]\nWantedBy=multi-user.target\n")),
	"two commands":           plain(good().unit("web-x.service", oneMore+"[Service]\nExecStart=sh\n"), "error unit-incomplete web-x.service"),
	"two commands in a line": plain(good().unit("web-x.service", "[Service]\nExecStart=sh ; sh\n[Install]\nWantedBy=multi-user.target\n"), "error unit-incomplete web-x.service"),
	"two commands, oneshot":  plain(good().unit("web-x.service", oneMore+"[Service]\nExecStart=sh\nType=oneshot\n")),
	"no name on the bus":     trusted(good().unit("web-x.service", oneMore+"[Service]\nType=dbus\n"), "error unit-incomplete web-x.service"),
	"socket, nowhere":        plain(good().unit("web.socket", "[Socket]\nListenStream=80\nListenStream=\n[Install]\nWantedBy=sockets.target\n"), "error unit-incomplete web.socket"),
	"timer, never":           plain(good().unit("web-report.timer", "[Timer]\n[Install]\nWantedBy=timers.target\n"), "error unit-incomplete web-report.timer"),
	"path, none":             plain(good().unit("web-drop.path", "[Path]\nUnit=web-drop@a.service\n[Install]\nWantedBy=paths.target\n"), "error unit-incomplete web-drop.path"),
}

var execCases = map[string]lintCase{
	"relative":              plain(good().service("@/usr/bin/web", "@usr/bin/web"), "error exec-relative web.service:9"),
	"relative, may fail":    plain(good().service("-clean", "-bin/clean"), "warning exec-relative web.service:8"),
	"missing":               plain(good().without(fixtureImage+"usr/bin/web"), "error exec-missing web-report@.service:3", "error exec-missing web.service:9"),
	"missing, bare":         plain(good().service("-clean", "wash"), "error exec-missing web.service:8"),
	"missing, may fail":     plain(good().service("-clean", "-/bin/wash"), "warning exec-missing web.service:8"),
	"missing, by specifier": plain(good().service("@/usr/bin/web", "@/usr/bin/%N-x"), "error exec-missing web.service:9"),
	"named by specifier":    plain(good().service("@/usr/bin/web", "@/usr/bin/%N")),
	"named by the host":     plain(good().service("@/usr/bin/web", "@/usr/bin/%H/web")),
	"for a shell":           plain(good().service("@/usr/bin/web", "|no such thing")),
	"of the host":           plain(good().service("@/usr/bin/web", "/opt/web/web").service("Slice", "BindReadOnlyPaths=/opt/web\nSlice").with(fixtureImage+"opt/web/", "").with("opt/web/", "")),
	"of the host, in run":   plain(good().service("@/usr/bin/web", "/var/run/web").with(fixtureImage+"var/run", "→/run")),
	"search path":           plain(good().service("-clean", "wash").service("Slice", "ExecSearchPath=/opt:/srv\nSlice").with(fixtureImage+"srv/wash", good()[fixtureImage+"usr/bin/clean"])),
	"only ExecStart":        plain(good().service("-clean", "/bin/wash").service("Slice", "RootDirectoryStartOnly=yes\nSlice")),
	"directory":             plain(good().service("-clean", "/usr"), "error exec-directory web.service:8"),
	"directory, by name":    plain(good().service("-clean", "/bin/clean/"), "error exec-directory web.service:8"),
	"no program":            plain(good().service("-clean --all", "-"), "warning exec-directory web.service:8"),
	"mode":                  plain(good().with(fixtureImage+"usr/bin/clean", "#!/bin/sh"), "error exec-interpreter-missing web-report.service:3", "error exec-not-executable web.service:8"),
	"mode, of others":       plain(good().with(fixtureImage+"usr/bin/clean", "mode0750#!/bin/sh"), "error exec-not-executable web.service:8"),
	"mode, of root":         plain(good().with(fixtureImage+"usr/bin/clean", "mode0750#!/bin/sh").service("-clean", "+clean")),
	"mode, trusted":         trusted(good().with(fixtureImage+"usr/bin/clean", "mode0750#!/bin/sh")),
	"text":                  plain(good().with(fixtureImage+"usr/bin/clean", "mode0755echo"), "error exec-format web-report.service:3", "error exec-format web.service:8"),
	"empty":                 plain(good().with(fixtureImage+"usr/bin/web", "mode0755"), "error exec-format web-report@.service:3", "error exec-format web.service:9"),
	"half":                  plain(good().with(fixtureImage+"usr/bin/web", "mode0755"+makeELF(elfSpec{interp: "/x"})[:100]), "error exec-format web-report@.service:3", "error exec-format web.service:9"),
	"architecture":          plain(good().with(fixtureImage+"usr/bin/web", "mode0755"+makeELF(elfSpec{arch: "arm64"})), "error exec-architecture web-report@.service:3", "error exec-architecture web.service:9"),
	"architecture, 32 bits": plain(good().with(fixtureImage+"usr/bin/web", "mode0755"+makeELF(elfSpec{arch: "x86"})), "error exec-architecture web-report@.service:3", "error exec-architecture web.service:9"),
	"32 bits, trusted":      trusted(good().with(fixtureImage+"usr/bin/web", "mode0755"+makeELF(elfSpec{arch: "x86"}))),
	"other machine": {f: good().with(fixtureImage+"usr/bin/web", "mode0755"+makeELF(elfSpec{arch: "arm64"})).with(fixtureImage+"usr/bin/sh", "mode0755"+makeELF(elfSpec{arch: "arm64"})),
		o: LintOptions{Architecture: "arm64"}},
	"interpreter":           plain(good().with(fixtureImage+"usr/bin/clean", "mode0755#!/usr/bin/perl -w\n"), "error exec-interpreter-missing web-report.service:3", "error exec-interpreter-missing web.service:8"),
	"interpreter, env":      plain(good().with(fixtureImage+"usr/bin/clean", "mode0755#!/usr/bin/env python3\n"), "error exec-interpreter-missing web-report.service:3", "error exec-interpreter-missing web.service:8"),
	"interpreter, line end": plain(good().with(fixtureImage+"usr/bin/clean", "mode0755#!/bin/sh\r\n"), "error exec-interpreter-missing web-report.service:3", "error exec-interpreter-missing web.service:8"),
	"interpreter, none":     plain(good().with(fixtureImage+"usr/bin/clean", "mode0755#!\n"), "error exec-format web-report.service:3", "error exec-format web.service:8"),
	"interpreter, itself":   plain(good().with(fixtureImage+"usr/bin/clean", "mode0755#!/usr/bin/clean\n"), "error exec-format web-report.service:3", "error exec-format web.service:8"),
	"loader": plain(good().without(fixtureImage+"usr/lib64/ld-linux-x86-64.so.2").with(fixtureImage+"usr/lib64/", "").with(libraryDir+"libc.so.6", makeELF(elfSpec{})),
		"error exec-interpreter-missing web-drop@.service:2", "error exec-interpreter-missing web-report.service:3", "error exec-interpreter-missing web-talk@.service:4", "error exec-interpreter-missing web.service:8"),
	"library":               libraries(elfSpec{needed: []string{"libx.so"}}, nil, "error exec-library-missing web-x.service:2"),
	"library, of a library": libraries(elfSpec{needed: []string{"libx.so"}}, map[string]string{"usr/lib/libx.so": makeELF(elfSpec{needed: []string{"liby.so"}})}, "error exec-library-missing web-x.service:2"),
	"library, damaged":      libraries(elfSpec{needed: []string{"libx.so"}}, map[string]string{"usr/lib/libx.so": "no library"}, "error exec-library-missing web-x.service:2"),
	"library, architecture": libraries(elfSpec{needed: []string{"libx.so"}}, map[string]string{"usr/lib/libx.so": makeELF(elfSpec{arch: "x86"})}, "error exec-library-missing web-x.service:2"),
	"library, second":       libraries(elfSpec{needed: []string{"libx.so"}}, map[string]string{"usr/lib/libx.so": makeELF(elfSpec{arch: "x86"}), "usr/lib64/libx.so": makeELF(elfSpec{})}),
	"library, by configuration": libraries(elfSpec{needed: []string{"libx.so"}}, map[string]string{"etc/ld.so.conf": "# x\ninclude ld.so.conf.d/*.conf\n",
		"etc/ld.so.conf.d/a.conf": "/opt/x # y\ninclude /etc/ld.so.conf", "opt/x/libx.so": makeELF(elfSpec{})}),
	"library, runpath": libraries(elfSpec{needed: []string{"libx.so"}, runpath: "rel:$ORIGIN/../x/${LIB}"}, map[string]string{"usr/x/lib64/libx.so": makeELF(elfSpec{})}),
	"library, runpath not handed on": libraries(elfSpec{needed: []string{"libx.so"}, runpath: "/opt"}, map[string]string{"opt/libx.so": makeELF(elfSpec{needed: []string{"liby.so"}}), "opt/liby.so": makeELF(elfSpec{})},
		"error exec-library-missing web-x.service:2"),
	"library, rpath handed on": libraries(elfSpec{needed: []string{"libx.so"}, rpath: "/opt"}, map[string]string{"opt/libx.so": makeELF(elfSpec{needed: []string{"liby.so"}}), "opt/liby.so": makeELF(elfSpec{})}),
	"library, path":            libraries(elfSpec{needed: []string{"/opt/libx.so"}}, map[string]string{"opt/libx.so": makeELF(elfSpec{})}),
	"library, in a circle":     libraries(elfSpec{needed: []string{"libx.so"}}, map[string]string{"usr/lib/libx.so": makeELF(elfSpec{needed: []string{"libx.so", "libc.so.6"}})}),
	"library, musl":            libraries(elfSpec{needed: []string{"libx.so"}}, map[string]string{"etc/ld-musl-x86_64.path": "/lib:/opt\n", "opt/libx.so": makeELF(elfSpec{})}),
	"library, environment": plain(libraries(elfSpec{needed: []string{"libx.so"}}, map[string]string{"opt/libx.so": makeELF(elfSpec{})}).f.
		unit("web-x.service", "[Service]\nExecStart=/usr/bin/x\nEnvironment=LD_LIBRARY_PATH=/opt:\n[Install]\nWantedBy=multi-user.target\n")),

	"socket's commands": plain(good().replace(fixtureUnits+"web.socket", "ListenStream=80", "ListenStream=80\nExecStartPre=/usr/bin/web"), "warning exec-on-host web.socket:3"),
	"directory, private": plain(good().with(fixtureImage+"usr/libexec/", "mode0700").with(fixtureImage+"usr/libexec/web", "mode0755"+makeELF(elfSpec{})).service("@/usr/bin/web", "/usr/libexec/web"),
		"error path-not-searchable /usr/libexec"),
	"image, private":              plain(good().with(fixtureImage, "mode0700"), "error path-not-searchable /"),
	"image, private, trusted":     trusted(good().with(fixtureImage, "mode0700")),
	"working directory":           plain(good().service("WorkingDirectory=/var/lib/web", "WorkingDirectory=/srv/web"), "error working-directory-missing web.service:14"),
	"working directory, may fail": plain(good().service("WorkingDirectory=/var/lib/web", "WorkingDirectory=-/srv/web")),
	"working directory, home":     plain(good().service("WorkingDirectory=/var/lib/web", "WorkingDirectory=~")),
	"condition":                   plain(good().service("[Unit]", "[Unit]\nConditionPathExists=|/usr/bin/web\nConditionPathExists=!/usr/bin/web\nAssertFileNotEmpty=/etc/passwd\nConditionHost=/usr"), "warning condition-on-host web.service:2"),
	"environment file":            plain(good().service("Slice", "EnvironmentFile=-/etc/web.env\nSlice").with(fixtureImage+"etc/web.env", "A=b\n"), "warning environment-file-on-host web.service:15"),
	"environment file, of host":   plain(good().service("Slice", "EnvironmentFile=-/etc/web.env\nSlice").with(fixtureImage+"etc/web.env", "A=b\n").with("etc/web.env", "")),
}

// libraries is the good image with one more program, and files besides.
func libraries(spec elfSpec, files map[string]string, want ...string) lintCase {
	spec.interp = "/lib64/ld-linux-x86-64.so.2"
	f := good().unit("web-x.service", "[Service]\nExecStart=/usr/bin/x\n[Install]\nWantedBy=multi-user.target\n")
	f[fixtureImage+"usr/bin/x"] = "mode0755" + makeELF(spec)
	for name, text := range files {
		f[fixtureImage+name] = text
	}
	return plain(f, want...)
}

var mountCases = map[string]lintCase{
	"nothing there": plain(good().without(fixtureImage+"proc/").without(fixtureImage+"tmp/").without(fixtureImage+"etc/resolv.conf"),
		"warning mount-point-missing /etc/resolv.conf", "warning mount-point-missing /proc", "warning mount-point-missing /tmp"),
	"nothing there, strict":  strict(good().without(fixtureImage+"var/tmp/").without(fixtureImage+"etc/resolv.conf"), "warning mount-point-missing /var/tmp"),
	"nothing there, trusted": trusted(good().without(fixtureImage+"etc/machine-id").without(fixtureImage+"run/"), "warning mount-point-missing /etc/machine-id", "warning mount-point-missing /run"),
	"link to nothing":        plain(good().with(fixtureImage+"etc/machine-id", "→/var/lib/dbus/machine-id"), "warning mount-point-missing /etc/machine-id"),
	"link to run":            plain(good().with(fixtureImage+"etc/resolv.conf", "→../run/systemd/resolve/stub-resolv.conf")),
	"link to a file":         plain(good().with(fixtureImage+"etc/resolv.conf", "→os-release")),
	"directory for a file":   plain(good().without(fixtureImage+"etc/machine-id").with(fixtureImage+"etc/machine-id/", ""), "error mount-point-type /etc/machine-id"),
	"file for a directory":   plain(good().without(fixtureImage+"dev/").with(fixtureImage+"dev", ""), "error mount-point-type /dev"),
	"read-only":              readOnly(good().without(fixtureImage+"proc/").without(fixtureImage+"var/lib/web/"), "error mount-point-missing /proc", "error mount-point-missing web.service:13"),
	"read-only, trusted": {f: readOnly(good().without(fixtureImage + "dev/").without(fixtureImage + "var/lib/web/")).f, o: LintOptions{Profile: "trusted"}, ref: Ref{Image: "/usr/web_3"},
		want: []string{"error mount-point-missing /dev", "error mount-point-missing web.service:13"}},
	"no API":             plain(good().without(fixtureImage+"sys/"), "warning mount-point-missing /sys"),
	"no API, not wanted": {f: good().without(fixtureImage+"sys/").with("etc/systemd/portable/profile/mine/service.conf", "[Service]\nMountAPIVFS=no\nDynamicUser=yes\n"), o: LintOptions{Profile: "mine"}},
	"state": plain(good().service("StateDirectory=web", "StateDirectory=web:www web/a\nCacheDirectory=%p c\nLogsDirectory=l\nConfigurationDirectory=e\nRuntimeDirectory=r"),
		"warning mount-point-missing web.service:14", "warning mount-point-missing web.service:14", "warning mount-point-missing web.service:15", "warning mount-point-missing web.service:16"),
	"state, in memory": plain(good().without(fixtureImage+"var/lib/web/").with(fixtureImage+"var/lib/", "").service("Slice", "TemporaryFileSystem=/var/lib:ro,size=1M\nSlice")),
	"temporary":        plain(good().service("Slice", "TemporaryFileSystem=/var/cache:ro /srv\nSlice").with(fixtureImage+"srv/", ""), "warning mount-point-missing web.service:15"),
	"bound": plain(good().service("Slice", "BindPaths=/data -/a:/b:rbind /etc/passwd:/var/x /run/x:/run/y \"/a:/var/lib/web/c d\"\nBindReadOnlyPaths=/etc/group\nSlice").with(fixtureImage+"data/", "").with(fixtureImage+"etc/group", ""),
		"warning mount-point-missing web.service:15", "warning mount-point-missing web.service:15"),
	"bound, no more": plain(good().service("Slice", "BindPaths=/data\nBindPaths=\nSlice")),
	"bound, types":   plain(good().service("Slice", "BindPaths=/etc:/f /etc/passwd:/d /what:/d\nSlice").with(fixtureImage+"d/", "").with(fixtureImage+"f", ""), "error mount-point-type web.service:15", "error mount-point-type web.service:15"),
	"image mounted":  plain(good().service("Slice", "MountImages=/x.raw:/data\nSlice"), "warning mount-point-missing web.service:15"),
	"own profile": {f: good().without(fixtureImage+"tmp/").without(fixtureUnits+"web-report@.service").replace(fixtureUnits+"web.target", "web-report@%H.service", "").with("etc/systemd/portable/profile/mine/service.conf", "[Service]\nBindPaths=/data\n"),
		o: LintOptions{Profile: "mine"}, want: []string{"warning mount-point-missing /data"}},
}

// readOnly moves the image to /usr, where images are never written to.
func readOnly(f fixture, want ...string) lintCase {
	for name, text := range f {
		if rest, ok := strings.CutPrefix(name, fixtureImage); ok {
			delete(f, name)
			f["usr/web_3/"+rest] = text
		}
	}
	return lintCase{f: f, want: want, ref: Ref{Image: "/usr/web_3"}}
}

var profileCases = map[string]lintCase{
	"root directory":              plain(good().service("Slice", "RootDirectory=/x\nSlice"), "error root-in-unit web.service:15"),
	"root image":                  plain(good().service("Slice", "RootImage=/x.raw\nSlice"), "error root-in-unit web.service:15"),
	"root of nothing":             plain(good().service("Slice", "RootImage=\nSlice")),
	"overridden":                  plain(good().service("Slice", "ProtectSystem=full\nPrivateUsers=true\nDynamicUser=no\nSlice"), "note setting-overridden web.service:15", "warning setting-overridden web.service:17"),
	"overridden, list":            plain(good().service("Slice", "CapabilityBoundingSet=CAP_KILL\nSlice")),
	"overridden, list made empty": strict(good().service("Slice", "CapabilityBoundingSet=CAP_KILL\nTasksMax=10\nSlice"), "warning setting-overridden web.service:15", "warning setting-overridden web.service:16"),
	"user, dynamic":               plain(good().service("Slice", "User=web\nGroup=web\nSlice"), "note user-unknown web.service:15", "note user-unknown web.service:16"),
	"user, in image":              plain(good().service("Slice", "User=web\nSlice").with(fixtureImage+"etc/passwd", "web:x:1:1::/:/bin/false\n")),
	"user, trusted":               trusted(good().service("Slice", "User=web\nGroup=web\nSlice"), "warning user-unknown web.service:15", "warning user-unknown web.service:16"),
	"user, on host":               trusted(good().service("Slice", "User=static\nGroup=0\nSlice")),
	"user, no host":               trusted(good().without("etc/passwd").service("Slice", "User=web\nSlice")),
	"bus":                         plain(good().service("Slice", "Type=dbus\nBusName=org.example.Web\nSlice"), "error bus-name-dynamic web.service:16"),
	"bus, besides":                plain(good().service("Slice", "Type=notify\nBusName=org.example.Web\nSlice"), "warning bus-name-dynamic web.service:16"),
	"bus, trusted":                trusted(good().service("Slice", "Type=dbus\nBusName=org.example.Web\nSlice")),
	"Go":                          strict(good().service("GOMAXPROCS=1", "GOMAXPROCS=2"), "warning tasks-max-go web.service:9"),
	"Go, nonetwork":               nonetwork(good().service("GOMAXPROCS=1", "GOMAXPROCS=2")),
	"Go, not":                     strict(good().service("GOMAXPROCS=1", "GOMAXPROCS=2").with(fixtureImage+"usr/bin/web", "mode0755"+makeELF(elfSpec{section: ".text"}))),
	"Go, asks itself":             plain(good().service("GOMAXPROCS=1", "GOMAXPROCS=2").service("Slice", "TasksMax=3\nSlice"), "warning tasks-max-go web.service:9"),
	"network":                     nonetwork(good().unit("web-x.service", oneMore), "note no-network web-x.service"),
	"network, families": {f: good().unit("web-x.service", oneMore).with("etc/systemd/portable/profile/mine/service.conf", "[Service]\nDynamicUser=yes\nRestrictAddressFamilies=AF_UNIX\n"),
		o: LintOptions{Profile: "mine"}, want: []string{"note no-network web-x.service"}},
	"network, families denied": {f: good().unit("web-x.service", oneMore).with("etc/systemd/portable/profile/mine/service.conf", "[Service]\nDynamicUser=yes\nRestrictAddressFamilies=~AF_UNIX\n"),
		o: LintOptions{Profile: "mine"}},
	"network, default": plain(good().unit("web-x.service", oneMore)),
	"network, oneshot": nonetwork(good().unit("web-x.service", oneMore+"[Service]\nType=oneshot\n")),
	"network, knows":   nonetwork(good().unit("web-x.service", oneMore+"[Service]\nPrivateNetwork=yes\n")),
	"network, sockets": nonetwork(good().unit("web-x.service", oneMore+"[Service]\nSockets=web.socket\n")),
}

var referenceCases = map[string]lintCase{
	"missing, required":     plain(good().service("[Unit]", "[Unit]\nRequires=db.service"), "error reference-missing web.service:2"),
	"missing, wanted":       plain(good().service("network-online.target\n\n", "network-online.target web-%p.service\n\n"), "warning reference-missing web.service:4"),
	"missing, ordered":      plain(good().service("data.mount", "db.service postgres"), "note reference-missing web.service:3", "note reference-missing web.service:3"),
	"missing, target":       plain(good().service("WantedBy=multi-user.target", "WantedBy=mutli-user.target"), "warning reference-missing web.service:18"),
	"missing, sockets":      plain(good().service("Slice", "Sockets=web-a.socket\nSlice"), "error reference-missing web.service:15"),
	"on the host":           plain(good().service("[Unit]", "[Unit]\nRequires=db.service").with("usr/lib/systemd/system/db.service", "[Service]\n")),
	"on the host, instance": plain(good().service("[Unit]", "[Unit]\nRequires=db@%n.service").with("etc/systemd/system/db@.service", "[Service]\n")),
	"in the image, not attached": plain(good().service("[Unit]", "[Unit]\nRequires=db.service\nAfter=db.service").unit("db.service", oneMore).with(fixtureImage+"var/lib/dpkg/status", ""),
		"error reference-not-attached web.service:2"),
	"of the prefix only": prefixed(good().replace(releaseFile, "PORTABLE_PREFIXES=web", "PORTABLE_PREFIXES=\"web web-report\"").with(fixtureImage+"var/lib/dpkg/status", "").
		unit("web-report.timer", "[Timer]\nOnBootSec=1\nUnit=web.service\n[Install]\nWantedBy=timers.target\n"), "web-report",
		"note install-missing web-report.service", "error trigger-missing web-report.timer:3", "note install-missing web-report@.service"),
	"socket without service": plain(good().without(fixtureUnits+"web-talk@.service").unit("web-talk.service", oneMore), "error trigger-missing web-talk.socket"),
	"socket of another":      plain(good().replace(fixtureUnits+"web.socket", "ListenStream=80", "ListenStream=80\nService=web-drop@b.service").unit("web.service", serviceText)),
	"socket of none":         plain(good().replace(fixtureUnits+"web.socket", "ListenStream=80", "ListenStream=80\nService=wbe.service"), "error trigger-missing web.socket:3"),
	"timer without a unit":   plain(good().without(fixtureUnits+"web-report.service"), "error trigger-missing web-report.timer"),
	"path of none":           plain(good().without(fixtureUnits+"web-drop@.service"), "error trigger-missing web-drop.path:3"),
	"not to be enabled":      plain(good().unit("web-x.service", "[Service]\nExecStart=sh\n"), "note install-missing web-x.service"),
	"wanted by another":      plain(good().unit("web-x.service", "[Service]\nExecStart=sh\n").service("[Unit]", "[Unit]\nUpholds=web-x.service")),
	"alias":                  plain(good().unit("web-x.service", "[Service]\nExecStart=sh\n[Install]\nAlias=x.service\n")),
}

func allLintCases() []map[string]lintCase {
	return []map[string]lintCase{releaseCases, unitCases, execCases, mountCases, profileCases, referenceCases}
}

func TestLintCases(t *testing.T) {
	t.Parallel()
	for _, cases := range allLintCases() {
		for name, c := range cases {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				if c.ref.Image == "" {
					c.ref.Image = "/srv/web_3"
				}
				if c.o.Architecture == "" {
					c.o.Architecture = "x86-64"
				}
				want := append([]string{}, c.want...)
				if diff := cmp.Diff(want, lintFixture(t, c.f, c.ref, c.o)); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

// Each rule has a case that fires, but for those that tests of their own have.
func TestLintCasesAreComplete(t *testing.T) {
	t.Parallel()
	fired := map[string]bool{}
	for _, cases := range allLintCases() {
		for _, c := range cases {
			for _, w := range c.want {
				fired[strings.Fields(w)[1]] = true
			}
		}
	}
	for _, r := range LintRules() {
		if !fired[r.Name] && !slices.Contains([]string{"image-damaged", "image-path", "not-protected", "too-much"}, r.Name) {
			t.Errorf("no case comes to %s", r.Name)
		}
	}
}

// The path of an image is checked, too, and an extension may be given twice.
func TestLintPaths(t *testing.T) {
	t.Parallel()
	dir := good().write(t)
	must(t, os.Rename(filepath.Join(dir, "srv/web_3"), filepath.Join(dir, `srv/web_3 \`)))
	r, err := Lint(ctx(), openHost(t, dir), Ref{Image: `/srv/web_3 \`}, LintOptions{Architecture: "x86-64"})
	must(t, err)
	if len(r.Findings) != 1 || r.Findings[0].Rule != "image-path" {
		t.Errorf("%+v", r.Findings)
	}
	c := extended(good())
	c.ref.Image, c.ref.Extensions = "/srv/web_3", []string{"/srv/more", "/srv/more"}
	if diff := cmp.Diff([]string{"error extension-mismatch"}, lintFixture(t, c.f, c.ref, LintOptions{Architecture: "x86-64"})); diff != "" {
		t.Error(diff)
	}
}

// There is an end to findings, and to looking, even if there is none to what is
// wrong. That is said.
func TestLintLimits(t *testing.T) {
	t.Parallel()
	count := func(format string, n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	for name, f := range map[string]fixture{
		"findings": good().unit("web-x.service", oneMore+count("nonsense %d\n", maxFindings+10)),
		"units":    good().unit("web-x.service", oneMore+"[Unit]\nAfter="+count("a%d.service ", maxChecks)),
		"programs": good().unit("web-x.service", "[Service]\nType=oneshot\n"+count("ExecStart=/usr/lib/%d\n", maxSettings/2)+count("ExecStop=/usr/lib/../lib/%d\n", maxSettings/2)),
		"search":   good().unit("web-x.service", oneMore+"[Service]\nType=oneshot\nExecSearchPath="+count("/a%d:", maxUnit/16)+count("\nExecStart=a%d", 2000)),
		"mounts":   good().unit("web-x.service", oneMore+"[Service]\nBindPaths="+count("/a%d ", maxUnit/16)),
		"large":    good().unit("web-x.service", oneMore+"#"+strings.Repeat("#", maxUnit-len(oneMore)-1)),
	} {
		list := lintFixture(t, f, Ref{Image: "/srv/web_3"}, LintOptions{Architecture: "x86-64"})
		limited := slices.ContainsFunc(list, func(l string) bool { return strings.Contains(l, "too-much") })
		if len(list) > maxFindings || limited != slices.Contains([]string{"findings", "units", "search", "programs"}, name) {
			t.Errorf("%s: %d findings, %v", name, len(list), limited)
		}
	}
}
