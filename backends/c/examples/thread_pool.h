/* A small pool of POSIX threads with a function of the type ck_parallelize. */

#ifndef THREAD_POOL_H
#define THREAD_POOL_H

#include <convkernels.h>

#include <pthread.h>
#include <stdlib.h>

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t work_arrived;
    pthread_cond_t work_finished;
    pthread_t *workers;
    size_t threads; /* the calling thread included */
    /* The current run. */
    ck_part part;
    void *task;
    size_t parts;
    size_t next;     /* the first part that nobody has taken */
    size_t finished; /* parts that have returned */
    int stopped;
} thread_pool;

/* Takes parts until none is left. The caller holds the lock. */
static void thread_pool_help(thread_pool *pool)
{
    while (pool->next < pool->parts) {
        size_t index = pool->next++;
        pthread_mutex_unlock(&pool->lock);
        pool->part(pool->task, index);
        pthread_mutex_lock(&pool->lock);
        pool->finished++;
        if (pool->finished == pool->parts) {
            pthread_cond_signal(&pool->work_finished);
        }
    }
}

static void *thread_pool_worker(void *argument)
{
    thread_pool *pool = argument;
    pthread_mutex_lock(&pool->lock);
    while (!pool->stopped) {
        thread_pool_help(pool);
        if (!pool->stopped) {
            pthread_cond_wait(&pool->work_arrived, &pool->lock);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* The callback: `context` is the pool. One run at a time can use it. */
static void thread_pool_parallelize(void *context, size_t parts, ck_part part, void *task)
{
    thread_pool *pool = context;
    pthread_mutex_lock(&pool->lock);
    pool->part = part;
    pool->task = task;
    pool->parts = parts;
    pool->next = 0;
    pool->finished = 0;
    pthread_cond_broadcast(&pool->work_arrived);
    thread_pool_help(pool);
    while (pool->finished < pool->parts) {
        pthread_cond_wait(&pool->work_finished, &pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
}

/* Returns 0 if the system refused a thread or memory. */
static int thread_pool_start(thread_pool *pool, size_t threads)
{
    thread_pool empty = {0};
    *pool = empty;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work_arrived, NULL);
    pthread_cond_init(&pool->work_finished, NULL);
    pool->workers = malloc(threads * sizeof *pool->workers);
    if (pool->workers == NULL) {
        return 0;
    }
    for (pool->threads = 1; pool->threads < threads; pool->threads++) {
        if (pthread_create(&pool->workers[pool->threads - 1], NULL, thread_pool_worker, pool) != 0) {
            return 0;
        }
    }
    return 1;
}

static void thread_pool_stop(thread_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->stopped = 1;
    pthread_cond_broadcast(&pool->work_arrived);
    pthread_mutex_unlock(&pool->lock);
    for (size_t i = 1; i < pool->threads; i++) {
        pthread_join(pool->workers[i - 1], NULL);
    }
    free(pool->workers);
    pthread_cond_destroy(&pool->work_finished);
    pthread_cond_destroy(&pool->work_arrived);
    pthread_mutex_destroy(&pool->lock);
}

#endif
