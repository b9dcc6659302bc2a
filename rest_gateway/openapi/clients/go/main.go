// Uses the Go client that oapi-codegen has generated into contacts.gen.go. Run it,
// with the gateway's URL in GATEWAY and a bearer token in TOKEN: go run .
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/google/uuid"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	client, err := NewClientWithResponses(os.Getenv("GATEWAY"), WithRequestEditorFn(
		func(_ context.Context, request *http.Request) error {
			request.Header.Set("Authorization", "Bearer "+os.Getenv("TOKEN"))
			return nil
		}))
	if err != nil {
		return err
	}

	// The request id makes it safe to try again.
	id := uuid.New()
	created, err := client.ContactServiceCreateContactWithResponse(ctx,
		&ContactServiceCreateContactParams{RequestId: &id}, ContactCreate{Person: Person{Name: new("Ada")}})
	if err != nil {
		return err
	}
	contact := created.JSON201
	fmt.Println("created", *contact.Person.Name)
	contactID := strings.TrimPrefix(*contact.Name, "contacts/")

	read, err := client.ContactServiceGetContactWithResponse(ctx, contactID, nil)
	if err != nil {
		return err
	}
	fmt.Println("read", *read.JSON200.Person.Name)

	// A change is made only if nobody else has made one since.
	unchanged := &ContactServiceUpdateContactParams{IfMatch: contact.Etag}
	changed, err := client.ContactServiceUpdateContactWithResponse(ctx, contactID, unchanged,
		ContactUpdate{Person: &Person{Email: new("ada@example.com")}})
	if err != nil {
		return err
	}
	fmt.Println("updated", *changed.JSON200.Person.Name, *changed.JSON200.Person.Email)
	stale, err := client.ContactServiceUpdateContactWithResponse(ctx, contactID, unchanged,
		ContactUpdate{Person: &Person{Email: new("other@example.com")}})
	if err != nil {
		return err
	}
	fmt.Println("refused", stale.StatusCode(), *stale.ApplicationproblemJSON412.Reason)

	imported, err := client.ContactServiceImportContactsWithResponse(ctx,
		ImportContactsRequest{People: &[]Person{{Name: new("Grace")}}, Finish: new(true)})
	if err != nil {
		return err
	}
	fmt.Println("imported", *imported.JSON200.ContactCount)

	page, err := client.ContactServiceListContactsWithResponse(ctx,
		&ContactServiceListContactsParams{PageSize: new(int32(10))})
	if err != nil {
		return err
	}
	fmt.Println("listed", strings.Join(names(*page.JSON200.Contacts), " "))

	// Without WithResponse, a method leaves the body to its caller, who can read it line by line.
	exported, err := client.ContactServiceExportContacts(ctx)
	if err != nil {
		return err
	}
	defer exported.Body.Close()
	var all []string
	lines := bufio.NewScanner(exported.Body)
	for lines.Scan() {
		var line ExportContactsLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return err
		}
		all = append(all, names(*line.Result.Contacts)...)
	}
	slices.Sort(all)
	fmt.Println("exported", strings.Join(all, " "))

	watching, leave := context.WithCancel(ctx)
	defer leave()
	watch, err := client.ContactServiceWatchContacts(watching, nil)
	if err != nil {
		return err
	}
	defer watch.Body.Close()
	lines = bufio.NewScanner(watch.Body)
	for range 2 {
		var line WatchContactsLine
		if !lines.Scan() {
			return lines.Err()
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return err
		}
		fmt.Println("watch", *line.Result.Kind)
		if _, err := client.ContactServiceDeleteContactWithResponse(ctx, contactID, nil); err != nil {
			return err
		}
	}

	gone, err := client.ContactServiceGetContactWithResponse(ctx, contactID, nil)
	if err != nil {
		return err
	}
	fmt.Println("error", gone.StatusCode(), *gone.ApplicationproblemJSON404.Code)

	invalid, err := client.ContactServiceCreateContactWithResponse(ctx, nil,
		ContactCreate{Person: Person{Name: new(" ")}})
	if err != nil {
		return err
	}
	violations := *invalid.ApplicationproblemJSON400.Violations
	fmt.Println("error", invalid.StatusCode(), *violations[0].Field)
	return nil
}

func names(contacts []Contact) []string {
	var found []string
	for _, each := range contacts {
		found = append(found, *each.Person.Name)
	}
	return found
}
