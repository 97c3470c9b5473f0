package nomadtest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/api"
	"github.com/shoenig/test/must"
)

// V-146: a service of a guest is checked by Nomad, at the guest's own address.
func TestV146_ServiceCheck(t *testing.T) {
	c := newClient(t)
	job := c.tinyJob("checked", "")
	job.text = strings.Replace(job.text, `address_mode = "driver"`, `address_mode = "driver"
				check {
					type     = "http"
					path     = "/"
					interval = "1s"
					timeout  = "1s"
				}`, 1)
	job.run()
	alloc := job.becomes("running", 60*time.Second)
	eventually(t, 60*time.Second, "a check that succeeds", func() error {
		checks, err := c.api.Allocations().Checks(alloc.ID, nil)
		if err != nil {
			return err
		}
		for _, check := range checks {
			if check.Status == "success" {
				return nil
			}
		}
		return fmt.Errorf("%+v", checks)
	})
}

// V-148: a template that changes while the guest runs changes in the guest.
func TestV148_ChangedTemplate(t *testing.T) {
	c := newClient(t)
	job := c.tinyJob("told", "")
	tell := func(word string) {
		path := "nomad/jobs/" + job.id
		_, _, err := c.api.Variables().Update(&api.Variable{Path: path, Items: map[string]string{"word": word}}, nil)
		must.NoError(t, err)
	}
	tell("first")
	job.text = strings.Replace(job.text, `data        = "written for {{ env \"NOMAD_JOB_NAME\" }}\n"`,
		fmt.Sprintf(`data        = "{{ with nomadVar \"nomad/jobs/%s\" }}{{ .word }}{{ end }}"`, job.id)+"\n\t\t\t\tchange_mode = \"noop\"", 1)
	job.run()
	job.becomes("running", 60*time.Second)
	job.says("TINY-READY")
	asked := onHost(job.hostPorts()["http"]) + "/local/page.txt"
	must.Eq(t, "first", page(t, asked, 20*time.Second))
	tell("second")
	eventually(t, 20*time.Second, "the second word", func() error {
		if now := page(t, asked, 5*time.Second); now != "second" {
			return fmt.Errorf("it is %q", now)
		}
		return nil
	})
}

// V-59 V-73 D26: two tasks of one allocation, each with a seed, a name and memory of its own; user data comes from a file.
func TestTwoTasksOfOneAllocation(t *testing.T) {
	c := newClient(t)
	job := c.newJob("both", jobParts{
		image:  tinyImage(t),
		memory: 160,
		task: `template {
			data        = "#!/bin/sh\necho FROM-A-FILE\nstatus.sh\n"
			destination = "local/user-data.sh"
		}`,
		// As the job sees it; the driver finds the file on the host.
		config: `user_data = "${NOMAD_TASK_DIR}/user-data.sh"`,
	})
	begin, end := strings.Index(job.text, `    task "vm" {`), strings.LastIndex(job.text, "  }\n}")
	second := strings.Replace(job.text[begin:end], `task "vm"`, `task "other"`, 1)
	second = strings.Replace(second, "memory = 160", "memory = 224", 1)
	job.text = job.text[:end] + second + job.text[end:]
	job.run()
	alloc := job.becomes("running", 60*time.Second)
	names := map[string]bool{}
	for task, memory := range map[string]int{"vm": 160, "other": 224} {
		log := filepath.Join(c.dir, "agent/data/alloc", alloc.ID, "alloc/logs", task+".stdout.0")
		text := ""
		eventually(t, 60*time.Second, "TINY-READY of "+task, func() error {
			data, err := os.ReadFile(log)
			text = string(data)
			if err == nil && !strings.Contains(text, "TINY-READY") {
				err = fmt.Errorf("it says %q", tail(text, 200))
			}
			return err
		})
		must.StrContains(t, text, "FROM-A-FILE")
		name := regexp.MustCompile(`hostname=(\S+)`).FindStringSubmatch(text)
		must.NotNil(t, name)
		must.StrHasPrefix(t, "nomad-"+task+"-", name[1])
		names[name[1]] = true
		figure := regexp.MustCompile(`memory=(\d+) KiB`).FindStringSubmatch(text)
		must.NotNil(t, figure)
		kib, err := strconv.Atoi(figure[1])
		must.NoError(t, err)
		// The kernel keeps some tens of MiB of it for itself.
		must.Between(t, (memory-60)<<10, kib, memory<<10)
	}
	must.MapLen(t, 2, names)
}

// V-14: the node tells of its networks, for jobs to be placed by.
func TestV14_NetworkAttributes(t *testing.T) {
	c := newClient(t)
	node, _, err := c.api.Nodes().Info(c.node, nil)
	must.NoError(t, err)
	must.Eq(t, c.bridge, node.Attributes["driver.virt.network."+c.bridge+".bridge_name"])
	must.MapContainsKey(t, node.Attributes, "driver.virt.network."+c.bridge+".state")
	job := c.newJob("placed", jobParts{
		mode: obedient,
		job:  fmt.Sprintf("constraint {\n attribute = \"${attr.driver.virt.network.%s.bridge_name}\"\n value = %q\n }", c.bridge, c.bridge),
	}).run()
	job.becomes("running", 30*time.Second)
}
