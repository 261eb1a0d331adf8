package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/lockport/lockport/build"
)

func (a *app) portableNewCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "new [OPTIONS] NAME",
		Short: "Begin a service with an example that can be built",
		Long: `Makes a folder NAME with a complete portable service to begin with: a small web
server in Go, its service and socket units, the specification portable.conf for
'lockport portable build', and a README.md with the commands. The name may have
a-z, 0-9 and -, and begins with a letter. A folder that is there already is left
alone.`,
		Example: `  lockport portable new hello
  cd hello && lockport portable build`,
		Args: arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error { return a.portableNew(args[0]) },
	}
	a.bindQuiet(cmd.Flags())
	return cmd
}

func (a *app) portableNew(name string) error {
	files, err := build.NewProject(".", name)
	if err != nil {
		return err
	}
	for _, f := range files {
		a.say("Written %s.", f)
	}
	a.say("Go on with 'lockport portable build' in %s.", filepath.Dir(files[0]))
	return nil
}
