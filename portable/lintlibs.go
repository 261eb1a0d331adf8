package portable

import (
	"io/fs"
	"path"
	"slices"
	"strings"
)

// maxLibraryFolders is more than any system has.
const maxLibraryFolders = 256

// triplets are Debian's names of architectures, as in the directories of libraries.
var triplets = map[string]string{
	"x86-64": "x86_64-linux-gnu", "x86": "i386-linux-gnu", "arm64": "aarch64-linux-gnu", "arm": "arm-linux-gnueabihf",
	"riscv64": "riscv64-linux-gnu", "loongarch64": "loongarch64-linux-gnu", "ppc64-le": "powerpc64le-linux-gnu",
	"ppc64": "powerpc64-linux-gnu", "s390x": "s390x-linux-gnu", "mips64-le": "mips64el-linux-gnuabi64", "mips64": "mips64-linux-gnuabi64",
}

// libraryFolders is where the loader of the image looks for libraries: what its
// configuration says, from which its cache was made, and what it has built in.
func (l *lint) libraryFolders() []string {
	if l.dirs != nil {
		return l.dirs
	}
	list := l.loaderConfig("/etc/ld.so.conf")
	triplet := triplets[l.arch]
	for _, top := range []string{"/", "/usr"} {
		for _, dir := range []string{"lib/" + triplet, "lib", "lib64", "local/lib"} {
			list = append(list, path.Join(top, dir))
		}
	}
	if l.arch == "x86-64" {
		list = append(list, "/lib/"+triplets["x86"], "/usr/lib/"+triplets["x86"], "/lib32", "/usr/lib32")
	}
	l.dirs = append(list, l.muslPath()...)
	return l.dirs
}

// loaderConfig reads a file like /etc/ld.so.conf and what it includes.
func (l *lint) loaderConfig(p string) (list []string) {
	const maxFiles = 64
	for queue, read := []string{p}, 0; len(queue) > 0 && read < maxFiles && len(list) < maxLibraryFolders; read++ {
		p, queue = queue[0], queue[1:]
		text, err := l.layers.readFile(p, maxRelease)
		if err != nil {
			continue
		}
		for line := range strings.SplitSeq(string(text), "\n") {
			line, _, _ = strings.Cut(line, "#")
			words := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t,:", r) })
			if len(words) == 2 && words[0] == "include" {
				queue = append(queue, l.glob(words[1], path.Dir(p))...)
				continue
			}
			list = append(list, slices.DeleteFunc(words, func(w string) bool { return w[0] != '/' })...)
		}
	}
	return list[:min(len(list), maxLibraryFolders)]
}

// glob returns the files that a pattern means, whose directory is plain.
func (l *lint) glob(pattern, dir string) (list []string) {
	if !path.IsAbs(pattern) {
		pattern = path.Join(dir, pattern)
	}
	for _, img := range l.layers {
		entries, err := fs.ReadDir(img, strings.Trim(path.Dir(pattern), "/"))
		if err != nil {
			continue
		}
		for _, e := range entries {
			if ok, err := path.Match(path.Base(pattern), e.Name()); ok && err == nil && len(list) < maxLibraryFolders {
				list = append(list, path.Join(path.Dir(pattern), e.Name()))
			}
		}
	}
	return list
}

// muslPath is the configuration of the other loader that is in wide use.
func (l *lint) muslPath() []string {
	var list []string
	for _, file := range l.glob("/etc/ld-musl-*.path", "/") {
		text, err := l.layers.readFile(file, maxRelease)
		if err != nil {
			continue
		}
		for _, p := range strings.FieldsFunc(string(text), func(r rune) bool { return r == ':' || r == '\n' }) {
			if path.IsAbs(p) && len(list) < maxLibraryFolders {
				list = append(list, p)
			}
		}
	}
	return list
}
