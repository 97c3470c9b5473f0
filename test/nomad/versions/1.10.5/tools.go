//go:build tools

// Keeps the agent of this version among what go.mod requires; scripts/setup/nomad-agent.ts builds it.
package nomadagent

import (
	_ "github.com/hashicorp/nomad"
)
