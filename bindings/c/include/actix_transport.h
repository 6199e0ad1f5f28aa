// The C interface of actix-transport: messages between the nodes of a cluster.
//
// A program makes a context, a transport in it, registers callbacks, binds, looks up peers and sends:
//
//     axt_context_new -> axt_transport_new -> axt_register -> axt_bind -> axt_peer_get -> axt_try_send
//     axt_stop -> axt_transport_free -> axt_context_free
//
// Errors. A function that can fail returns an axt_code, 0 for success. Its last argument is a pointer to an
// axt_error of the caller, which gets the details, or null. Results are written through pointers, and only if the
// call succeeds.
//
// Handles. axt_config, axt_transport and axt_peer are numbers in a struct, passed by value. A context never gives
// out a number twice, so using a handle after its end, or one that is {0}, is an error (AXT_BAD_HANDLE) and
// nothing worse. The pointer to the context is the only one that must not be used after its end.
//
// Memory. What is passed in belongs to the caller, and is read only during the call: bytes to send are copied.
// What a callback is given lives until it returns. A text made by this library (axt_stats_json) is freed with
// axt_string_free. `user` pointers are passed on untouched; what they lead to must live until axt_stop has
// returned. Memory is bounded: by `queue_bytes` for each lane of each peer, by `udp_group_bytes` and `udp_queue_bytes`
// for datagrams, and by `inbound_bytes` for what is received.
//
// Versions. A later 0.x may have more fields in its structs, so build a program again with the header of the library
// that it runs with. The number of the shared library (its SONAME) changes with the structs and functions.
//
// Threads. All functions may be called from any thread, and by several at once; only axt_context_free must be the
// last call with its context. None of them blocks, except axt_send, axt_stop, axt_transport_free, axt_context_free,
// and axt_bind while it looks up a name. Meanwhile other functions that set up this transport, use it before it is
// bound or stop it wait for axt_bind; give it an ip to avoid that. They may be called when a thread ends and in `exit`,
// by destructors and by functions of `atexit`; a new thread then makes the call, which takes longer.
//
// Callbacks run on threads that the registration started, or on the one that receives (0 threads), never on a thread
// of the caller, and never after axt_stop has returned. In a callback everything may be called except the functions
// that wait (axt_send, axt_stop, axt_transport_free, axt_context_free): these return AXT_IN_CALLBACK, also for
// another transport of the same context. With two contexts the library cannot see it: if a callback of each stops a
// transport of the other one, both wait for ever. A callback may block: what waits then is what axt_register says. It
// must return: no longjmp out of it and no exception through it, which would end the process.
//
// The process. The library sets no signal handler, leaves SIGPIPE as it is and raises none, and changes no setting
// of the process. Threads of the library handle signals like any others of the process.
//
// fork. A forked process has no threads of the library. There, all functions with a context return AXT_FORKED, and
// the context's memory stays until the process ends. The sockets are not inherited by a program that it executes; as
// long as it executes none, it keeps the ports open.
// A new context may be made there.
//
// dlopen and dlclose. All contexts must be freed before dlclose. The shared library stays loaded after it: a thread that
// looks up a name or closes descriptors may still be running then.


#ifndef ACTIX_TRANSPORT_H
#define ACTIX_TRANSPORT_H

// Made by cbindgen from bindings/c/src. Do not edit: run `make header`.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// How many bytes the text of an error may have, with the zero at its end.
#define AXT_ERROR_TEXT 512

// How a call ended. Every function that can fail returns one of these.
typedef enum {
  // It worked.
  AXT_OK = 0,
  // A pointer that must not be null is null.
  AXT_NULL = 1,
  // The handle was never given out by this context, or it has ended.
  AXT_BAD_HANDLE = 2,
  // A text is not UTF-8.
  AXT_BAD_TEXT = 3,
  // A number is out of its bounds: a lane above 7, too many threads, or a length that no memory has.
  AXT_BAD_VALUE = 4,
  // A setting is unknown, cannot be read, or is out of its bounds. The text names the field.
  AXT_CONFIG = 5,
  // A file cannot be read, or is no TOML.
  AXT_FILE = 6,
  // The text is no address, or no peer can be reached at it.
  AXT_ADDRESS = 7,
  // Somebody else listens on the address already.
  AXT_IN_USE = 8,
  // The address cannot be bound for another reason.
  AXT_BIND = 9,
  // The identity of the node cannot be used.
  AXT_IDENTITY = 10,
  // The keys cannot be used.
  AXT_TLS = 11,
  // The transport is not bound yet, or it is bound already and this must be said before.
  AXT_STATE = 12,
  // The transport is stopping or has stopped.
  AXT_STOPPED = 13,
  // The queue is full, or the group has used up its share of it. The same send may succeed later.
  AXT_FULL = 14,
  // The message is longer than a frame or a datagram may be.
  AXT_TOO_LARGE = 15,
  // The group is served already.
  AXT_GROUP_TAKEN = 16,
  // Group 0xFFFFFFFF cannot be used.
  AXT_GROUP_RESERVED = 17,
  // The transport knows as many peers as it may.
  AXT_TOO_MANY_PEERS = 18,
  // The transport has forgotten the peer, and this is a handle from before that.
  AXT_FORGOTTEN = 19,
  // Datagrams are switched off.
  AXT_NO_DATAGRAMS = 20,
  // There was no room in the queue in time.
  AXT_TIMEOUT = 21,
  // The function waits, and may not be called from a callback.
  AXT_IN_CALLBACK = 22,
  // The context was made by another process, from which this one was forked.
  AXT_FORKED = 23,
  // The system refused something that the transport needs, such as a thread.
  AXT_SYSTEM = 24,
  // The sender did not introduce itself, so it cannot be answered.
  AXT_UNKNOWN_SENDER = 25,
  // A fault of this library.
  AXT_FAULT = 26,
} axt_code;

// Which kind of event.
typedef enum {
  // Frames can leave for the peer.
  AXT_EVENT_UP = 1,
  // The connection to the peer has ended.
  AXT_EVENT_DOWN = 2,
  // Connecting to the peer failed.
  AXT_EVENT_UNREACHABLE = 3,
  // A node has introduced itself on a connection that it made.
  AXT_EVENT_HEARD = 4,
  // A node has said that it stops.
  AXT_EVENT_GOODBYE = 5,
  // Frames from a node are missing. `count` says how many.
  AXT_EVENT_GAP = 6,
  // Frames were lost after they had been accepted or received. `count` says how many.
  AXT_EVENT_DROPPED = 7,
  // This subscriber was too slow, and missed `count` events.
  AXT_EVENT_MISSED = 8,
  // Something else, which the text says.
  AXT_EVENT_OTHER = 9,
} axt_event_kind;

// What all handles of a program, or of a part of it, belong to. There is no other state: two contexts know
// nothing of each other.
//
// The pointer to it is the only one of this library that must not be used after its end. All other handles are
// numbers that a context gives out once and never again, so one that has ended, or was never given out, returns
// AXT_BAD_HANDLE.
typedef struct axt_context axt_context;

// The details of a failure. It belongs to the caller, who passes a pointer to it as the last argument, or
// null if only the code matters. It is written only if the call fails.
typedef struct {
  // The code that the function returned.
  axt_code code;
  // What went wrong, in English, with a zero at its end. Names the field, address or group at fault. A text
  // that is too long is cut.
  char text[AXT_ERROR_TEXT];
} axt_error;

// Settings for a transport. A handle, to be freed with axt_config_free. {0} is none.
typedef struct {
  // Not to be looked at.
  uint64_t id;
} axt_config;

// A transport: one node of a cluster. A handle, to be freed with axt_transport_free. {0} is none.
typedef struct {
  // Not to be looked at.
  uint64_t id;
} axt_transport;

// A number of frames, and their bytes with 8 for the header of each.
typedef struct {
  // Frames.
  uint64_t frames;
  // Bytes.
  uint64_t bytes;
} axt_count;

// What was accepted for sending and dropped because the transport stopped.
typedef struct {
  // Frames for connections, of all peers.
  axt_count undelivered;
  // Datagrams.
  axt_count datagrams;
  // How many peers the frames were for.
  uint64_t peers;
} axt_stop_report;

// Who sent a message. Lives until the callback returns. A copy may be kept, but its text and its `id` end
// with the callback.
typedef struct {
  // For axt_reply and axt_sender_peer. 0 if the sender cannot be answered, because it did not introduce itself.
  uint64_t id;
  // Whether the sender has introduced itself: all nodes of the cluster have an identity (axt_identity). Otherwise
  // `node` and `incarnation` are 0.
  bool known;
  // The number of the node.
  uint64_t node;
  // Which life of the node this is.
  uint64_t incarnation;
  // The lane that the message was sent on, 0 if the sender is not known.
  uint32_t lane;
  // Whether it came as a datagram.
  bool datagram;
  // The ip and port that it came from, with a zero at the end. No address to send to: the port is that of a
  // connection that was dialled.
  const char *from;
} axt_sender;

// Called for each received message. `user` is what was given with this function. The message, and what `sender`
// points to, live until this returns.
//
// The four bytes before `bytes` may be read, too: they are the group in little-endian order. So `bytes - 4` is a
// message in the form that PhxPaxos has it in.
typedef void (*axt_on_message)(void *user,
                               uint32_t group,
                               const axt_sender *sender,
                               const uint8_t *bytes,
                               size_t len);

// The bytes of one message.
typedef struct {
  // Where they are. Not null.
  const uint8_t *data;
  // How many there are.
  size_t len;
} axt_bytes;

// Messages of one sender for one group that were received together, in order.
typedef struct {
  // The group that they are for.
  uint32_t group;
  // Whether messages of this sender for this group may be missing before these. Always false if the sender is
  // not known.
  bool gap;
  // Who sent them.
  const axt_sender *sender;
  // The messages.
  const axt_bytes *messages;
  // How many there are, at least 1.
  size_t count;
} axt_batch;

// Called for the messages that were received together. Everything that `batch` leads to lives until this returns.
typedef void (*axt_on_batch)(void *user, const axt_batch *batch);

// Something that happened to a peer or to the transport.
typedef struct {
  // Which kind of event. Further kinds may be added.
  axt_event_kind kind;
  // The lane, 0 where the event is about none.
  uint32_t lane;
  // What the peer is called, with a zero at the end. Null where the event is about no peer.
  const char *peer;
  // How many frames or events, where the kind says so.
  uint64_t count;
  // One line for a log, with a zero at the end.
  const char *text;
} axt_event;

// Called for each event. Everything that `event` leads to lives until this returns.
typedef void (*axt_on_event)(void *user, const axt_event *event);

// A node to send to. A handle, to be freed with axt_peer_free. {0} is none. While it lives, the transport does not
// forget the peer, which takes memory.
typedef struct {
  // Not to be looked at.
  uint64_t id;
} axt_peer;

// How a message is sent. {0} and null mean a plain send.
typedef struct {
  // The lane, 0 to 7: 0 is the normal one, 1 for what is short and urgent, 2 for what is long and can wait. Each has
  // a connection and a queue of its own. Settings and texts call them `normal`, `control`, `bulk` and `lane-3` to
  // `lane-7`.
  uint32_t lane;
  // If it is not 0, the message takes the place of one with the same group and `key` that still waits.
  uint8_t latest;
  // The key for `latest`.
  uint64_t key;
  // Drops the message when it has waited this many milliseconds to be written. 0: as the setting `stale_after`
  // says.
  uint64_t ttl_ms;
} axt_send_options;

// What became of frames that were to be sent: offered = accepted + rejected, and accepted = written + dropped +
// queued + in_flight.
typedef struct {
  // Given to a send.
  axt_count offered;
  // Accepted by the queue.
  axt_count accepted;
  // Refused by the queue.
  axt_count rejected;
  // Taken by the system.
  axt_count written;
  // Written, and acknowledged by the other side's system when the connection ended.
  axt_count confirmed;
  // Written, and not known to have arrived when the connection ended.
  axt_count in_doubt;
  // Accepted, and then dropped: stale, pushed out, or left when the transport stopped.
  axt_count dropped;
  // Waiting.
  axt_count queued;
  // Being written.
  axt_count in_flight;
} axt_send_stats;

// The main counters of a transport. axt_stats_json has all of them.
typedef struct {
  // Over connections, on all lanes.
  axt_send_stats tcp;
  // As datagrams.
  axt_send_stats udp;
  // Received. It is delivered + undelivered + in_delivery.
  axt_count received;
  // Handled by a callback. Also the messages that followed in the same batch when the transport stopped during a
  // callback: they are not passed on.
  axt_count delivered;
  // Received and dropped: nobody was registered, or the transport stopped.
  axt_count undelivered;
  // Waiting for a callback, or with one.
  axt_count in_delivery;
  // Connections that were dialled and came about.
  uint64_t connects;
  // Connections that were dialled and ended.
  uint64_t disconnects;
  // Connections that were accepted.
  uint64_t accepted;
  // Connections now, accepted ones.
  uint64_t connections;
  // Peers that are known now.
  uint64_t peers;
} axt_stats;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Returns what a code means, in English. The text is constant and never freed. Any number is allowed.
// May be called from any thread, also in a forked process.
const char *axt_error_text(int32_t code);

// Makes a context. Free it with axt_context_free. Starts no threads.
axt_code axt_context_new(axt_context **context, axt_error *error);

// Ends all handles of the context and frees it. Transports that run are stopped first, at once, and their
// callbacks are waited for, as axt_stop does. No other thread may be in a call with this context, or begin
// one. Null does nothing.
//
// Returns AXT_IN_CALLBACK in a callback, and AXT_FORKED in a forked process. The context is then not freed.
axt_code axt_context_free(axt_context *context, axt_error *error);

// Makes settings: the defaults, which are those of PhxPaxos, or those for messages of many megabytes
// (`large_messages`): frames up to 50 MiB, 1,024 of them in a queue, stale after 20 s.
axt_code axt_config_new(const axt_context *context,
                        bool large_messages,
                        axt_config *config,
                        axt_error *error);

// Reads settings from a TOML file. It has either the settings by their names, or `listen` (where axt_bind
// listens if it is given no address), a table `peers` (names that axt_peer_get takes) and a table `config` (the
// settings); each may be left out.
//
// AXT_FILE: the file cannot be read or is no TOML. AXT_CONFIG: the text names the field and its value.
axt_code axt_config_file(const axt_context *context,
                         const char *path,
                         axt_config *config,
                         axt_error *error);

// Sets one field by its name, to a value as text: a number "5000", a size "64MiB", a time "200ms", "true",
// a word such as "drop_oldest", or a table in the form of TOML, such as "{ control = { queue_bytes = \"1MiB\" } }".
// Bounds are checked by axt_bind. Transports made before do not change.
//
// AXT_CONFIG: the text names the field and the value. Nothing is changed then.
axt_code axt_config_set(const axt_context *context,
                        axt_config config,
                        const char *name,
                        const char *value,
                        axt_error *error);

// Ends a handle of settings. Transports made with it keep theirs.
axt_code axt_config_free(const axt_context *context, axt_config config, axt_error *error);

// Makes a transport that is not bound yet. `config` may be {0} for the defaults. Whoever is registered before
// axt_bind misses no message.
axt_code axt_transport_new(const axt_context *context,
                           axt_config config,
                           axt_transport *transport,
                           axt_error *error);

// Says who this node is: its number, which no other node has; the name of its cluster, or null; and the
// address that others reach it at, or null if they see it. Then nodes introduce themselves to each other, can be
// answered, and know which messages are missing. To be called before axt_bind. All nodes of a cluster have an identity,
// or none has: a node with one and a node without one, as all of PhxPaxos are, exchange no messages over connections.
axt_code axt_identity(const axt_context *context,
                      axt_transport transport,
                      uint64_t node,
                      const char *cluster,
                      const char *advertised,
                      axt_error *error);

// Says which node is meant at an address ("10.0.0.2:7000" or "node-2.svc:7000"): no other node that answers
// there gets its frames. Needs an identity. To be called before axt_bind.
axt_code axt_meant(const axt_context *context,
                   axt_transport transport,
                   uint64_t node,
                   const char *address,
                   axt_error *error);

// Encrypts all connections, with keys from three files in PEM format: the certificates of the CAs, the
// certificate of this node, and its private key. Both ends show their certificates. Needs an identity. To be called
// before axt_bind.
//
// `allowed` are `count` patterns for the names in the certificates of other nodes, such as "node-*.svc" or
// "spiffe://cluster/node/*". There must be one at least; "*" accepts any certificate of these CAs. The name must
// also end in the number of the node. If a pattern is none, axt_bind says so (AXT_TLS).
axt_code axt_tls(const axt_context *context,
                 axt_transport transport,
                 const char *ca,
                 const char *certificate,
                 const char *key,
                 const char *const *allowed,
                 size_t count,
                 axt_error *error);

// Opens the port and starts the threads of the transport. From here on others can connect. `address` is an ip or
// a name, and a port, of which 0 lets the system choose one (see axt_address). If it is null, the `listen` of the
// configuration's file is used. Blocks while a name is looked up, and so do functions that need to know whether this
// transport is bound; with an ip, nothing is looked up. After an error it may be called again.
//
// AXT_IN_USE: somebody listens there already. AXT_BIND: the system has no such address. AXT_ADDRESS: there is none.
// AXT_CONFIG: a setting is out of its bounds. AXT_STATE: it is bound already.
axt_code axt_bind(const axt_context *context,
                  axt_transport transport,
                  const char *address,
                  axt_error *error);

// Writes the ip and port that the transport listens on into `text`, which has room for `size` bytes, with a zero
// at the end. 64 bytes are always enough; AXT_BAD_VALUE: there is too little room.
axt_code axt_address(const axt_context *context,
                     axt_transport transport,
                     char *text,
                     size_t size,
                     axt_error *error);

// Stops the transport and waits until it has ended: the port is free, and no callback runs or begins any more. Its
// threads have ended, but for those that wait for the system: to look up a name, or to close descriptors. A callback
// that runs is waited for, however long it takes.
//
// With `drain_ms` 0, what is queued is dropped. Otherwise it is first written, and what was received is handled,
// for at most this many milliseconds. `report` says what was dropped; it may be null.
//
// May be called from any thread except a callback (AXT_IN_CALLBACK), and by several at once: all wait for the same
// end and get the same report, and the first decides how it stops. Other threads may be sending; they get
// AXT_STOPPED. Afterwards the handle still gives the counters, until it is freed.
axt_code axt_stop(const axt_context *context,
                  axt_transport transport,
                  uint64_t drain_ms,
                  axt_stop_report *report,
                  axt_error *error);

// Ends the handle, and those of the transport's peers. A transport that runs is stopped first, as axt_stop does with
// `drain_ms` 0. In a callback, AXT_IN_CALLBACK.
axt_code axt_transport_free(const axt_context *context,
                            axt_transport transport,
                            axt_error *error);

// Has `on_message` called for each message of `group`, with `user`. Before or after axt_bind; messages that come
// while nobody is registered for their group are dropped and counted.
//
// With one thread, the calls come one after another on a thread of this registration, and while one takes long, the
// connections that bring messages for this group wait. With more `threads` (at most 256), up to so many calls run
// at once, and only the connections whose call takes long wait. The messages of one connection for one group stay in
// order, and come one after another.
//
// With 0 threads, the calls come on the thread of the transport that receives. That saves a round trip the wake-up
// of another thread. Everything else on that thread waits for a call: all that is received over connections and as
// datagrams, new connections, events for axt_subscribe, and, with `placement` "shared", all that is sent. A call must be
// short and must not block.
//
// AXT_GROUP_TAKEN: the group is served already.
axt_code axt_register(const axt_context *context,
                      axt_transport transport,
                      uint32_t group,
                      axt_on_message on_message,
                      void *user,
                      uint32_t threads,
                      axt_error *error);

// Has `on_message` called for the messages of all groups that no other registration is for; see axt_register. With 0
// threads or one, the messages of one connection stay in order, whatever their groups. With more, those of different
// groups may change places and run at once.
axt_code axt_register_all(const axt_context *context,
                          axt_transport transport,
                          axt_on_message on_message,
                          void *user,
                          uint32_t threads,
                          axt_error *error);

// Does the same as axt_register, with one call for the messages that were received together.
axt_code axt_register_batches(const axt_context *context,
                              axt_transport transport,
                              uint32_t group,
                              axt_on_batch on_batch,
                              void *user,
                              uint32_t threads,
                              axt_error *error);

// Does the same as axt_register_all, with one call for the messages for one group that were received together. Those of
// different groups may change places, however many threads there are.
axt_code axt_register_all_batches(const axt_context *context,
                                  axt_transport transport,
                                  axt_on_batch on_batch,
                                  void *user,
                                  uint32_t threads,
                                  axt_error *error);

// Has `on_event` called for what happens to peers and to the transport, one event after another, on a thread of its
// own. A slow callback gets the latest state: events of one kind about one peer merge. When the transport stops, it
// has 50 ms to handle the last ones.
axt_code axt_subscribe(const axt_context *context,
                       axt_transport transport,
                       axt_on_event on_event,
                       void *user,
                       axt_error *error);

// Looks up a peer: by its name in the table `peers` of the configuration's file, or by its address, such as
// "10.0.0.2:7000", "[::1]:7000" or "node-3.svc:7000". Host names are looked up later, when the peer is dialled. Does
// not connect: the first message does. Needs a bound transport (AXT_STATE).
axt_code axt_peer_get(const axt_context *context,
                      axt_transport transport,
                      const char *address,
                      axt_peer *peer,
                      axt_error *error);

// Makes a handle of who sent a message, to answer it now or later. To be called in the callback; `sender` is what
// it got, and `transport` is the one that received. AXT_UNKNOWN_SENDER: the sender did not introduce itself.
// AXT_BAD_HANDLE: the callback has returned, or another transport received.
axt_code axt_sender_peer(const axt_context *context,
                         axt_transport transport,
                         const axt_sender *sender,
                         axt_peer *peer,
                         axt_error *error);

// Ends a handle of a peer. What is queued is still sent.
axt_code axt_peer_free(const axt_context *context, axt_peer peer, axt_error *error);

// Queues a message for `group` of a peer if there is room now. Never blocks, and may be called from any thread and
// from callbacks. The bytes are copied: they belong to the caller again when this returns. AXT_OK means accepted, not
// received. `options` may be null.
//
// AXT_FULL: there is no room; try again later or drop the message. Not on lane 1: if that is full, the oldest message is
// dropped and counted, unless the setting `lanes` says otherwise.
axt_code axt_try_send(const axt_context *context,
                      axt_peer peer,
                      uint32_t group,
                      const void *data,
                      size_t len,
                      const axt_send_options *options,
                      axt_error *error);

// Does the same as axt_try_send, and blocks this thread for up to `timeout_ms` while there is no room. Not in a
// callback (AXT_IN_CALLBACK). AXT_TIMEOUT: nothing was sent.
axt_code axt_send(const axt_context *context,
                  axt_peer peer,
                  uint32_t group,
                  const void *data,
                  size_t len,
                  const axt_send_options *options,
                  uint64_t timeout_ms,
                  axt_error *error);

// Sends a message as a datagram if there is room now. The network may lose, repeat or reorder it. Only to a peer
// that was looked up by ip and port (AXT_ADDRESS). AXT_TOO_LARGE: longer than the setting `max_datagram`.
axt_code axt_send_datagram(const axt_context *context,
                           axt_peer peer,
                           uint32_t group,
                           const void *data,
                           size_t len,
                           axt_error *error);

// Sends a message as a datagram if it is short enough for one, and over the connection if it is longer, or if no
// datagram can go there, as PhxPaxos does. Messages sent so arrive in any order. Never blocks.
axt_code axt_send_auto(const axt_context *context,
                       axt_peer peer,
                       uint32_t group,
                       const void *data,
                       size_t len,
                       axt_error *error);

// Answers who sent a message, as axt_try_send, on the normal lane. To be called in the callback; `sender` is what it
// got. AXT_UNKNOWN_SENDER: the sender did not introduce itself. AXT_BAD_HANDLE: the callback has returned.
axt_code axt_reply(const axt_context *context,
                   const axt_sender *sender,
                   uint32_t group,
                   const void *data,
                   size_t len,
                   axt_error *error);

// Reads the main counters. Also after the transport has stopped.
axt_code axt_stats_get(const axt_context *context,
                       axt_transport transport,
                       axt_stats *stats,
                       axt_error *error);

// Writes all counters as JSON, with a zero at the end. The text is to be freed with axt_string_free.
axt_code axt_stats_json(const axt_context *context, axt_transport transport, char **json, axt_error *error);

// Frees a text that this library has made. Null does nothing.
void axt_string_free(char *text);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ACTIX_TRANSPORT_H */
