// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const criSocket = "unix:///run/containerd/containerd.sock"

var errUsage = errors.New("this crictl knows `images`, `ps` and `inspecti REFERENCE` alone")

// kind asks a node by crictl whether it has an image. That program's module does not pass Go's checksum database, and
// three questions to the runtime are all that anybody asks here.
func crictl(arguments []string) error {
	words := []string{}
	for _, argument := range arguments {
		if !strings.HasPrefix(argument, "-") {
			words = append(words, argument)
		}
	}
	if len(words) == 0 {
		return errUsage
	}
	connection, err := grpc.NewClient(criSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	switch {
	case words[0] == "inspecti" && len(words) == 2:
		return inspectImage(ctx, runtime.NewImageServiceClient(connection), words[1])
	case words[0] == "images":
		return listImages(ctx, runtime.NewImageServiceClient(connection))
	case words[0] == "ps":
		return listContainers(ctx, runtime.NewRuntimeServiceClient(connection))
	}
	return errUsage
}

func inspectImage(ctx context.Context, images runtime.ImageServiceClient, name string) error {
	answer, err := images.ImageStatus(ctx, &runtime.ImageStatusRequest{Image: &runtime.ImageSpec{Image: name}})
	if err != nil {
		return err
	}
	if answer.Image == nil {
		return fmt.Errorf("no such image %q", name)
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"status": map[string]any{
		"id": answer.Image.Id, "repoTags": answer.Image.RepoTags, "repoDigests": answer.Image.RepoDigests,
	}})
}

func listImages(ctx context.Context, images runtime.ImageServiceClient) error {
	answer, err := images.ListImages(ctx, &runtime.ListImagesRequest{})
	if err != nil {
		return err
	}
	for _, image := range answer.Images {
		fmt.Println(image.Id, image.Size, strings.Join(image.RepoTags, " "))
	}
	return nil
}

func listContainers(ctx context.Context, containers runtime.RuntimeServiceClient) error {
	answer, err := containers.ListContainers(ctx, &runtime.ListContainersRequest{})
	if err != nil {
		return err
	}
	for _, container := range answer.Containers {
		fmt.Println(container.Id, container.State, container.Metadata.GetName(), container.Labels["io.kubernetes.pod.name"])
	}
	return nil
}
