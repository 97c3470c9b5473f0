//go:build tools

// Keeps the agent itself among what go.mod requires; scripts/setup/nomad-agent.ts builds it.
package nomadtest

import (
	_ "github.com/hashicorp/nomad"
)
