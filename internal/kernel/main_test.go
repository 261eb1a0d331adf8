package kernel

import (
	"testing"

	"github.com/lockport/lockport/secret/secrettest"
)

func TestMain(m *testing.M) { secrettest.Main(m) }
