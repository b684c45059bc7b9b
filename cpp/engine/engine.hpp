// Engine: ids, tables, learner, retrieval, ranker and policies. The only place where they meet.
//
// Thread safety: every method may be called from any number of threads at once. What a call that has returned changed,
// every later call sees. Learning goes on while others learn and query; remove_items, remove_users and save pause
// learners, not queries.
//
// Long calls stop where the thread's Interrupt asks for it (storage/interrupt.hpp): reading ones and save throw
// Interrupted, learn_many returns how far it came, set_users and set_items keep the rows they have set.
//
// Errors: bad input throws std::invalid_argument (WrongIdKind, UnknownId where they say more) before anything changes.
// An engine with a folder (`open`) throws std::system_error where a change cannot be logged, and has not changed. In a
// forked child only questions are answered: what changes anything, maintain included, throws std::runtime_error.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "durability/gate.hpp"
#include "engine/capacity.hpp"
#include "engine/decision.hpp"
#include "engine/event_check.hpp"
#include "engine/event_sources.hpp"
#include "engine/fit_tables.hpp"
#include "engine/ids.hpp"
#include "engine/impressions.hpp"
#include "engine/journal.hpp"
#include "engine/latency.hpp"
#include "engine/upkeep.hpp"
#include "engine/verification.hpp"
#include "explore/judge.hpp"
#include "explore/linear.hpp"
#include "explore/precisions.hpp"
#include "learner/learner.hpp"
#include "learner/model.hpp"
#include "learner/settings.hpp"
#include "learner/user_budget.hpp"
#include "ranker/ranker.hpp"
#include "retrieval/filter_sets.hpp"
#include "retrieval/retriever.hpp"
#include "retrieval/selection.hpp"
#include "retrieval/top_k.hpp"

namespace recengine {

class SnapshotReader;
class SnapshotWriter;
struct Deferred;

inline constexpr double kLatest = std::numeric_limits<double>::quiet_NaN();  // "the latest timestamp seen"

// What a query asks for, beside whom it is for.
struct QueryOptions {
  std::size_t k = 10;
  bool exclude_seen = false;
  IdSpan exclude;
  std::optional<IdSpan> among;
  const FilterExpression* filter = nullptr;
  RetrievalOptions retrieval;
  std::span<const float> context;  // added to the weights of the item features, one each; empty: nothing is
};

// Rankings of one or more queries, one after another.
struct Rankings {
  IdArray ids;
  std::vector<float> scores;
  std::vector<std::size_t> counts;  // results of each query
  bool certified = true;            // all of them
};

// Where candidates came from. Each is counted once: as the user's own, as a neighbor, as retrieved, as popular.
struct Sources {
  std::size_t retrieved = 0, own = 0, neighbors = 0, popular = 0;
};

// How a query was executed.
struct Plan {
  RetrievalReport retrieval;
  Sources candidates;  // none without a ranker
  double compose_us = 0, retrieve_us = 0, rank_us = 0;
};

// A part of a score.
struct ExplanationPart {
  std::string name;  // "user", "history", "disliked", "bias", "offset", "popularity", or that of a signal
  Row item;          // its number in Explanation::items, or kNoRow
  float value, weight;
  double contribution;  // their product
};
struct Explanation {
  float score = 0;  // as `rank` shows it: what the contributions add up to, but for rounding
  std::vector<ExplanationPart> parts;
  IdArray items;
};

// All rows of users or items, in the order of their rows.
struct FactorTable {
  IdArray ids;
  std::vector<float> vectors;  // size() x dim
  std::vector<float> biases;
};

// Throws std::invalid_argument naming the first value that is not finite, or beyond 1e15.
void check_finite(std::span<const float> values, std::string_view what);

struct Statistics {
  std::size_t users, items;
  std::uint64_t events, queries, ignored_ids;
  std::uint64_t over_budget;                                    // events that were only remembered, like the next
  std::array<std::uint64_t, kBadEventNames.size()> bad_events;  // left out, by reason, since the engine is there
  std::size_t user_bytes, item_bytes, index_bytes, neighbor_bytes;
  std::size_t clusters;
  std::uint64_t recall_samples;
  double sampled_recall;  // of answers that were not certified; NaN: none was sampled
  double latest_timestamp;
};

class Engine {
 public:
  explicit Engine(const Settings& settings);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // --- learning (engine_learn.cpp)
  // Events that the source has delivered before are skipped.
  void learn_one(const Id& user, const Id& item, float value, float weight, double timestamp,
                 const SourceSpan& source = {});
  // Events of one user stay in order and on one thread. Returns how many were applied or skipped: all, unless
  // interrupted. Bad events are refused, all events with them, or left out and counted.
  std::size_t learn_many(const EventColumns& events, std::size_t threads, const SourceSpan& source = {},
                         OnBad on_bad = OnBad::kRaise);
  std::map<std::string, std::int64_t, std::less<>> sources() const { return sources_.all(); }

  // --- queries (engine_query.cpp, engine_rank.cpp)
  Rankings recommend(const Id& user, const QueryOptions& options);
  Plan plan(const Id& user, const QueryOptions& options);  // runs the query
  Rankings recommend_history(const IdSpan& history, const QueryOptions& options);
  Rankings recommend_many(const IdSpan& users, const QueryOptions& options);
  std::vector<float> score(const Id& user, const IdSpan& items);
  Rankings rank(const Id& user, const IdSpan& items, std::span<const float> context = {});
  // The signals of items as the ranker has them for a user: size x num_signals. Throws std::invalid_argument if there
  // is no ranker.
  std::vector<float> ranker_signals(const Id& user, const IdSpan& items);
  Explanation explain(const Id& user, const Id& item);  // engine_explain.cpp
  std::vector<float> predict(const Id& user, const IdSpan& items);
  Rankings similar_items(const Id& item, const QueryOptions& options);
  // By co-occurrence. Throws std::invalid_argument if the engine keeps none.
  Rankings similar_by_behaviour(const Id& item, const QueryOptions& options);
  Rankings search(std::span<const float> vector, bool cosine, const QueryOptions& options);

  // --- exploration (engine_explore.cpp, engine_impressions.cpp). The same queries, answered by a policy. Throws
  // std::invalid_argument for more than kMaxCandidates results.
  Decision explore(const Id& user, const QueryOptions& options, const ExploreOptions& explore);
  Decision explore_history(const IdSpan& history, const QueryOptions& options, const ExploreOptions& explore);
  // Each user's seed is drawn from that of the call.
  std::vector<Decision> explore_many(const IdSpan& users, const QueryOptions& options, const ExploreOptions& explore);
  // The decision was shown. The number that feedback to it names.
  std::uint64_t impression(std::shared_ptr<const Decision> decision, double timestamp);
  // A reward for an item that was shown, learned from if `learn`; a user that is not known yet is by then. Returns its
  // weight: 0 of a visitor, who teaches nothing. Throws UnknownId where it joins nothing.
  double feedback(std::uint64_t number, const Id& item, float reward, double timestamp, bool learn);
  void set_feedback_settings(const FeedbackSettings& settings);
  Impressions& impressions() { return impressions_; }

  // --- what the engine makes of lists that were shown (engine_judge.cpp). Throw UnknownId for an unknown item.
  // The scores by which policies choose among these items, all different, for a user (one id), or for a visitor (none)
  // with this history; -infinity of items that it does not know.
  std::vector<float> ranking_scores(const IdSpan& user, const IdSpan& history, const IdSpan& items,
                                    std::span<const float> context);
  // As `judge` of explore/judge.hpp, a policy of the linear model by what is uncertain now. user: one id, or none.
  // items: those of the candidates that have finite scores, in their order.
  Views judge(const IdSpan& user, const IdSpan& items, const ShownList& list, const Policy& policy, std::size_t draws,
              std::uint64_t seed);
  // The first k places of items in the order of MMR or DPP.
  std::vector<std::uint32_t> diversified(const IdSpan& items, std::span<const float> scores, const Diversity& diversity,
                                         std::size_t k);
  // A number for the group of each item, 0 for none.
  std::vector<Row> groups_of(const IdSpan& items);

  // --- rows (engine_rows.cpp)
  std::vector<float> user_vectors(const IdSpan& users);  // size x dim, as composed for a query
  std::vector<float> item_vectors(const IdSpan& items);
  void set_users(const IdSpan& ids, std::span<const float> vectors, const float* biases);
  void set_items(const IdSpan& ids, std::span<const float> vectors, const float* biases);
  // values: size x item features. Throws std::invalid_argument if there are none.
  void set_item_features(const IdSpan& ids, std::span<const float> values);
  void remove_users(const IdSpan& ids);
  void remove_items(const IdSpan& ids);
  FactorTable user_factors();  // learned rows, without history
  FactorTable item_factors();
  IdArray user_ids();
  IdArray item_ids();
  bool has_user(const Id& id);
  bool has_item(const Id& id);
  IdKind user_kind() const { return model_.users.ids.kind(); }  // none until the first
  IdKind item_kind() const { return model_.items.ids.kind(); }
  std::size_t num_users() const { return model_.users.size(); }
  std::size_t num_items() const { return model_.items.size(); }

  // --- offline training (engine_fit.cpp). New ids are added; values are the pairs' weights, positive. What others
  // learn between the two calls on the rows of these users and items is lost; removed ones are left out.
  FitTables take_out(const EventColumns& pairs);
  void put_back(const FitTables& tables);

  // --- filters (engine_filter.cpp). An unknown filter or item throws UnknownId, in `remove` it is ignored. A group is
  // there as long as an item is in it; in a query that names another, nothing is.
  void set_filter(std::string_view name, const IdSpan& items);
  void update_filter(std::string_view name, const IdSpan& add, const IdSpan& remove);
  void remove_filter(std::string_view name);
  void set_groups(const IdSpan& items, const IdSpan& labels);
  void check_filter(const FilterExpression& filter);  // throws UnknownId for any filter or group that is not there
  std::vector<std::string> filter_names();            // sorted

  // --- files (engine_file.cpp)
  void save(const std::string& path);
  static std::unique_ptr<Engine> load(const std::string& path);

  // --- mapped files (engine_mapped.cpp)
  // An engine that is read only, whose tables are a file, or the newest snapshot of a folder, as it lies there, shared
  // with other processes. Structure is checked now, the rest in the background: until that is done every query scans
  // all rows, and once damage is found queries throw FormatError. `verify`: all is checked first.
  static std::unique_ptr<Engine> load_mapped(const std::string& path, bool verify);
  // The same of a newer file or snapshot, checked and with its codes; none if there is none. Throws
  // std::invalid_argument unless mapped.
  std::unique_ptr<Engine> reloaded();
  struct MappingFigures {
    std::string path;
    std::size_t bytes;
    bool verified;
    std::string damage;  // empty: none was found
  };
  std::optional<MappingFigures> mapping() const;  // none: the engine is in memory

  // --- durability (engine_durable.cpp, engine_recovery.cpp)
  // The engine of a folder, as it was when its last change was logged; of these settings, if the folder is new. Throws
  // FormatError for a damaged snapshot or log, what options.accept throws, and Interrupted; the folder is then as it
  // was.
  static std::unique_ptr<Engine> open(const std::string& folder, const Settings& settings,
                                      const DurabilityOptions& options);
  bool durable() const { return journal_ != nullptr; }
  // Payloads of records, applied as recovery applies them. Throws PayloadError for what no engine wrote; what came
  // before it has been applied. REQUIRES: not durable().
  void apply_records(std::span<const std::span<const std::byte>> records);
  // Writes a snapshot; the log before it goes. Learning waits while the state is copied, not while it is written.
  // Throws std::invalid_argument unless durable().
  void checkpoint();
  void sync();   // what was learned so far is on the disk when it returns. REQUIRES: durable()
  void close();  // the folder is another's; changes throw from now on. REQUIRES: durable()
  struct DurabilityFigures {
    std::uint64_t next_record, log_bytes, syncs, checkpoints, recovered_records, cut_bytes;
    std::string log_error, checkpoint_error;  // empty: none
    bool closed;
  };
  DurabilityFigures durability() const;  // REQUIRES: durable()

  // --- upkeep of retrieval: in the background, once there are rows enough, or by hand. Steps done.
  std::size_t maintain();
  bool maintenance() const { return maintenance_.load(std::memory_order_relaxed); }
  void set_maintenance(bool on) { maintenance_.store(on, std::memory_order_relaxed); }

  // --- running settings and statistics
  const Settings& settings() const { return settings_; }
  float learning_rate() const { return learner_.learning_rate(); }
  void set_learning_rate(double rate);
  std::size_t threads() const { return threads_.load(std::memory_order_relaxed); }
  void set_threads(std::size_t threads);
  float global_bias() const;
  void set_global_bias(double bias);
  // The learned weights of places in the history, three groups of settings().history, then the offsets of its items.
  std::vector<float> context_weights() const;
  // Names of the ranker's signals, and their weights: in a session that goes on, then when it is over.
  std::vector<std::string> ranker_names() const;
  std::vector<float> ranker_weights() const;
  Statistics statistics();
  const LatencyHistogram& learn_latency() const { return learn_latency_; }
  const LatencyHistogram& query_latency() const { return query_latency_; }

 private:
  struct Batch;

  // `claims`: room for the new ids has been claimed. Null: if there is a limit, it is claimed here.
  std::size_t learn_all(const EventColumns& events, std::size_t threads, const SourceSpan& source, bool is_checked,
                        Claims* claims = nullptr);
  // The next three add to `applied` as they go.
  void learn_bounded(const EventColumns& events, std::size_t threads, const SourceSpan& source, std::size_t& applied);
  void learn_evicting(const EventColumns& events, std::size_t threads, const SourceSpan& source, std::size_t& applied);
  std::size_t learn_good(const EventColumns& events, std::size_t threads, const SourceSpan& source);
  std::size_t find_no_room(const EventColumns& events, Claims& claims, std::vector<BadEvent>& reasons);
  void skip_all(const SourceSpan& source);
  void learn_some(const EventColumns& events, std::size_t threads, const SourceSpan& source, bool is_checked,
                  Claims* claims, std::size_t& applied);
  void learn_in_chunks(const EventColumns& events, std::size_t threads, const SourceSpan& source, bool is_checked,
                       Claims* claims, std::size_t& applied);
  void check_all(const EventColumns& events) const;
  // `latest`: the time of events without one. `is_checked`: they are known to be good.
  std::size_t learn_batch(const EventColumns& events, std::size_t threads, double latest, const SourceSpan& source,
                          bool is_checked, Claims* claims, std::uint64_t* record);
  void prepare(Batch& batch, std::size_t piece, bool is_checked) const;
  void learn_units(Batch& batch);
  void learn_block(Batch& batch, std::size_t piece, std::span<const std::uint16_t> block);
  void saw_timestamp(double timestamp);
  double latest_timestamp() const;                                                    // 0: none yet
  double clock() const { return latest_timestamp_.load(std::memory_order_relaxed); }  // the same, NaN: none yet

  // What a query may return, resolved. Borrowed by Selection; lives as long as the query.
  struct Resolved {
    std::vector<Row> excluded;
    std::optional<std::vector<Row>> among;
    std::optional<Filter> filter;
    Selection selection(const RowSet* seen) const { return {seen, excluded, filter ? &*filter : nullptr, {}}; }
  };
  static std::unique_ptr<Engine> of_mapping(const std::string& path, std::unique_ptr<SnapshotReader> file, bool verify);
  void adopt(std::unique_ptr<SnapshotReader> file);
  bool verify_mapping(const std::atomic<bool>& stop);
  // What every query begins with.
  EpochDomain::Pin pin_query() {
    if (verification_) [[unlikely]]
      verification_->require_sound();
    return domain_.pin_reader();
  }

  Resolved resolve(const QueryOptions& options);
  Filter compile(const FilterExpression& filter, bool strict = false) const;
  Row known_item(const Id& item) const;
  std::vector<Row> find_known(const IdSpan& ids);  // unknown ones are ignored and counted
  std::size_t capped(std::size_t k) const;
  RetrievalOptions with_threads(RetrievalOptions options) const;
  // Whom a query is for: a user, or nobody, with a session or without.
  struct Asker {
    Row user = kNoRow;
    std::span<const Row> session;
    QueryVector query;
  };
  Selection selection_for(const Asker& asker, const QueryOptions& options, const Resolved& resolved);
  Selection selection_of(Row user, const QueryOptions& options, const Resolved& resolved) const;
  // The answer: the embedding's, or the ranker's over it. `all`: every item of `among` is a candidate.
  std::vector<Scored<float>> answer(const Asker& asker, std::size_t k, const QueryOptions& options,
                                    const Resolved& resolved, Plan& plan, bool all = false);
  std::vector<Scored<float>> retrieve(const Asker& asker, std::size_t k, const QueryOptions& options,
                                      const Resolved& resolved, RetrievalReport& report);
  // What `recommend` and `explore` begin with. REQUIRES: a reader's pin.
  struct Answer {
    std::vector<Row> session;  // what the asker's refers to
    Asker asker;
    std::vector<Scored<float>> best;
    bool certified = true;
  };
  Answer answer_user(const Id& user, std::size_t k, const QueryOptions& options);
  Answer answer_visitor(const IdSpan& history, std::size_t k, const QueryOptions& options);
  // Of options.k each; `each(number, user, best)`, if there is one, may take them, on any thread. REQUIRES: the same.
  std::vector<std::vector<Scored<float>>> answer_many(
      const IdSpan& users, const QueryOptions& options, bool& certified,
      const std::function<void(std::size_t, Row, std::vector<Scored<float>>&)>& each = {});
  // The k best of what was retrieved and the ranker's other candidates.
  std::vector<Scored<float>> merge(const Asker& asker, std::span<const Scored<float>> retrieved, std::size_t k,
                                   const QueryOptions& options, const Selection& selection,
                                   const std::vector<Row>* among, Plan& plan);
  std::vector<Scored<float>> best_of(Ranker::Query& query, std::span<const Row> rows, std::size_t k) const;
  Ranker::Query ranking_for(const Asker& asker, std::span<const float> context) const;
  void explain_score(const Asker& asker, Row item, double weight, Explanation& explanation) const;
  void check_context(std::span<const float> context) const;
  void check_ranks(std::string_view what) const;  // that there is a ranker
  static std::size_t num_retrieved(std::size_t k) { return std::max(k, Ranker::kRetrieved); }
  // Pushes the items that have an offset and may be returned.
  void push_repeated(const QueryVector& query, const Selection& selection, const std::vector<Row>* among,
                     TopK<float>& top) const;
  float score_of(const QueryVector& query, Row item) const;
  std::vector<Scored<float>> most_popular(std::size_t k, const Selection& selection, const Resolved& resolved) const;
  template <class Score, class Function>
  std::vector<Scored<Score>> best_by(Function score, std::size_t k, const Selection& selection,
                                     const Resolved& resolved) const;
  bool keep_live(std::vector<Scored<float>>& best) const;  // false if some had to go
  template <class Find>
  std::vector<Scored<float>> find_live(std::size_t k, Find find) const;
  std::vector<Scored<float>> answer_live(const Asker& asker, std::size_t k, const QueryOptions& options,
                                         const Resolved& resolved, Plan& plan);
  // REQUIRES: they were live at a moment since this thread is pinned.
  void append(Rankings& rankings, const std::vector<Scored<float>>& best) const;
  static std::size_t num_candidates(std::size_t k, const ExploreOptions& explore);
  std::uint64_t seed_of(const ExploreOptions& explore);
  AlignedFloats rows_of(std::span<const Row> items) const;
  // `user`: who asks, or null for a visitor.
  Decision decide(const Id* user, const Asker& asker, const std::vector<Scored<float>>& found, std::size_t k,
                  std::span<const float> context, const ExploreOptions& explore, std::uint64_t seed);
  Uncertainty uncertainty_of(Row user, const Policy& policy) const;
  std::vector<float> bias_deviations(std::span<const Row> items) const;
  void observe(const Decision& decision);
  std::shared_ptr<const Decision> without_removed(std::shared_ptr<const Decision> decision) const;
  // A reward that joins an impression.
  struct Joined {
    std::uint64_t number;
    std::size_t slot;
    float reward;
  };
  void join(const Joined& joined);
  static void put_joined(PayloadWriter& to, const Joined& joined);
  // An event that has been checked, with the feedback that it is, if it is. Its record. REQUIRES: a writer's pin.
  std::uint64_t learn_pinned(const Id& user, const Id& item, float value, float weight, double timestamp,
                             const SourceSpan& source, const Joined* joined, Claims* claims);
  void recommend_tile(std::span<const Row> users, const QueryOptions& options, const Resolved& resolved,
                      std::vector<std::vector<Scored<float>>>& results, std::size_t first,
                      std::atomic<bool>& certified);

  // --- limits (engine_capacity.cpp)
  bool is_bounded() const { return user_capacity_.on() || item_capacity_.on(); }
  void enforce_limits(bool on) {
    user_capacity_.enforce(on);
    item_capacity_.enforce(on);
  }
  void touch(Row user, Row item, std::uint64_t use) {
    user_capacity_.touch(user, use);
    item_capacity_.touch(item, use);
  }
  static Row find_or_add(EmbeddingTable& table, const Id& id, Claims* claims, void (Claims::*added)());
  Row user_row(const Id& id, Claims* claims);
  Row item_row(const Id& id, Claims* claims);
  // Claims room for those of the two that are new; makes it, if need be, without the writer's pin.
  void claim_rows(const Id& user, const Id& item, Claims& claims, std::optional<EpochDomain::Pin>& pin);
  // For ids of one table that are set; the known ones are used now. The same.
  void claim_block(bool is_users, const IdSpan& ids, std::uint64_t use, Claims& claims,
                   std::optional<EpochDomain::Pin>& pin);
  void claim_pairs(const EventColumns& pairs, Claims& claims);
  // Until there is room for so many: those that were not used since `before` go, least recent first. Throws
  // std::invalid_argument where none may. REQUIRES: no pin, no passage of evictions_.
  void make_room(std::size_t users, std::size_t items,
                 std::uint64_t before = std::numeric_limits<std::uint64_t>::max());
  std::uint64_t take_uses(std::size_t count) { return uses_.fetch_add(count, std::memory_order_relaxed); }
  // Whether what the user does may be noticed by others.
  bool is_within_budget(Row user) { return !budget_.on() || budget_.take(user, latest_timestamp()); }
  void remember_only(const Event& event);
  // REQUIRES: a Quiet, a reader's pin, known ids. The record.
  std::uint64_t erase_users(const IdSpan& ids);
  std::uint64_t erase_items(const IdSpan& ids);

  void put_rows(const FitTables& tables);
  FactorTable factors_of(const EmbeddingTable& table);
  void sweep_removed();
  static std::unique_ptr<Engine> load_from(const SnapshotReader& file);
  static std::unique_ptr<Engine> load_snapshot(const std::filesystem::path& path, std::uint64_t number,
                                               std::uint64_t& identity);
  std::uint64_t begin_folder(const std::filesystem::path& folder, std::uint64_t number, std::uint64_t identity);
  void load_numbers(const SnapshotReader& file);
  void require_blank() const;
  // All of a file in two parts, of which the second needs nothing that changes. REQUIRES of the first: writers paused.
  void write_state(SnapshotWriter& file, Deferred& deferred);
  void write_deferred(SnapshotWriter& file, Deferred& deferred) const;
  void prepare(SnapshotWriter& image, Deferred& deferred) const;
  void sweep_for_saving();

  // --- what every change begins with, and how it is logged
  bool is_own() const;          // not a forked child's
  void check_own() const;       // throws std::runtime_error
  void check_writable() const;  // the same, also of a mapped file
  // Nobody learns or changes anything while it lives, and what is in the log is applied.
  struct Quiet {
    std::optional<Gate::Closure> closure;
    EpochDomain::Pause pause;
  };
  Quiet quiet();
  // Where there is a log, changes other than learning take turns from their check until they are applied, so that what
  // one was checked against still holds where its record stands.
  std::unique_lock<std::mutex> change_turn() {
    return journal_ ? std::unique_lock(changes_mutex_) : std::unique_lock<std::mutex>();
  }
  // Appends the record, if there is a log, then applies it. REQUIRES: a writer's pin or a Quiet.
  template <class Encode, class Apply>
  std::uint64_t logged(RecordKind kind, std::uint32_t flags, Encode encode, Apply apply) {
    if (!journal_) {
      apply();
      return 0;
    }
    const std::uint64_t record = journal_->append(kind, flags, encode);
    journal_->apply(apply);
    return record;
  }
  // The same, applied in the order of the log, while nobody else can append: for what is short.
  template <class Encode, class Apply>
  std::uint64_t logged_in_order(RecordKind kind, std::uint32_t flags, Encode encode, Apply apply) {
    if (!journal_) {
      apply();
      return 0;
    }
    return journal_->append(kind, flags, encode, apply);
  }
  void acknowledge(std::uint64_t record) {
    if (journal_ && record != 0) journal_->log.acknowledge(record);
  }
  // Work of several records, of which it names the last: what has been done is acknowledged, also where the rest
  // failed.
  template <class Work>
  void acknowledging(Work work) {
    std::uint64_t record = 0;
    try {
      work(record);
    } catch (...) {
      acknowledge(record);
      throw;
    }
    acknowledge(record);
  }
  void set_rows_of(RecordKind kind, const IdSpan& ids, std::span<const float> vectors, const float* biases);
  struct Replay;
  void insert_pairs(const IdSpan& users, const IdSpan& items);
  void replay(std::span<const std::byte> record, Replay& pending);
  void replay_learn(std::uint32_t flags, PayloadReader& payload, Replay& pending);
  void replay_change(const RecordStart& start, PayloadReader& payload);
  void replay_impression(std::uint32_t flags, PayloadReader& payload);
  void replay_feedback(std::uint32_t flags, PayloadReader& payload, Replay& pending);
  void replay_feedback_settings(PayloadReader& payload);
  void learn_pending(Replay& pending);
  void learn_replayed(const EventColumns& events, double latest);

  const Settings settings_;
  std::string source_;                       // of `mapping_`: the file, or the folder that it is the newest snapshot of
  std::unique_ptr<SnapshotReader> mapping_;  // none: the tables are in memory
  EpochDomain domain_;                       // outlives what retires into it
  Model model_;
  Learner learner_;
  const EventCheck check_;
  UserBudget budget_;
  Capacity user_capacity_, item_capacity_;
  Gate evictions_;  // learners of a batch are inside; shut by who evicts, so that what was found known stays so
  FilterSets filters_{domain_};
  Retriever retriever_;
  Ranker ranker_;
  Precisions precisions_;
  Impressions impressions_;
  std::atomic<std::size_t> threads_;
  std::atomic<std::uint64_t> events_{0};    // applied
  std::atomic<std::uint64_t> sequence_{0};  // the next event's number: ahead of events_ while batches are under way
  std::atomic<std::uint64_t> queries_{0};
  std::atomic<std::uint64_t> decisions_{0};  // that the engine drew a seed for
  std::atomic<std::uint64_t> ignored_ids_{0};
  std::array<std::atomic<std::uint64_t>, kBadEventNames.size()> bad_events_{};
  std::atomic<std::uint64_t> over_budget_{0};
  std::atomic<std::uint64_t> uses_{1};    // the next stamp of a row that is learned from or set
  std::atomic<double> latest_timestamp_;  // NaN: none yet
  // Counts removals: rows looked up before it changed are looked up again.
  std::atomic<std::uint64_t> removals_{0};
  std::atomic<std::uint64_t> user_removals_{0};  // those of them that were of users
  EventSources sources_;
  const std::uint64_t generation_;  // of the process that made the engine
  std::mutex changes_mutex_;
  std::vector<Row> removed_items_;  // erased, not yet forgotten by user states. Touched while writers are paused.
  LatencyHistogram learn_latency_;
  LatencyHistogram query_latency_;
  std::atomic<bool> maintenance_{true};
  // Last, the upkeep, the check and the journal: their threads end before what they work on.
  std::unique_ptr<Upkeep> upkeep_;
  std::unique_ptr<Verification> verification_;  // of `mapping_`
  std::uint64_t recovered_records_ = 0, cut_bytes_ = 0;
  std::unique_ptr<Journal> journal_;  // none: the engine has no folder
};

}  // namespace recengine
